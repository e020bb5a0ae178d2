"""Who did what here; see `homeroom.audit`."""

from homeroom.audit import note

__all__ = ["note"]
