"""Rosters as Canvas takes them: SIS import files, and pushing them to a Canvas (D6)."""
