"""Turns a portal launch into a signed-in person, and issues the tokens services use."""
