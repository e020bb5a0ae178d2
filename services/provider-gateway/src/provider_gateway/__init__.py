"""Fetches a district from its provider and publishes what changed."""
