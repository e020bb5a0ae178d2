"""What every test can ask for."""

from homeroom.testing.postgres import database_url, postgres

__all__ = ["database_url", "postgres"]
