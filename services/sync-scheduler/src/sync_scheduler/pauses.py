"""Pauses: for a while, or until somebody resumes, no sync of an integration starts (C10).

A pause ends by itself; nothing has to notice. A run that is under way goes on, and files that are received meanwhile
wait. What was due in the meantime is made up for by one run (`slots.py`).
"""

from __future__ import annotations

from datetime import datetime

import asyncpg


def is_paused(row: asyncpg.Record, now: datetime) -> bool:
    """Whether no sync of an integration's row may start now."""
    return row["paused_at"] is not None and (row["paused_until"] is None or now < row["paused_until"])
