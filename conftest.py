"""What every test can ask for."""

from homeroom.testing.kafka import kafka, pytest_terminal_summary
from homeroom.testing.postgres import database_url, postgres

__all__ = ["database_url", "kafka", "postgres", "pytest_terminal_summary"]
