"""Decides when a district is synced, and supervises the run."""
