"""The SQL of sso, read once: every `.sql` file of its folder `sql`."""

from __future__ import annotations

from typing import Final

from homeroom.db import load_statements

SQL: Final = load_statements("sso")
