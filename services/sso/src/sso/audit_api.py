"""The REST face of sso's audit log: who did what. See `homeroom.audit_api`."""

from __future__ import annotations

from homeroom.audit_api import make_router

router = make_router("/v1/sign-in", "connections.read")
