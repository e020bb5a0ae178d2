"""The store's settings: what every service has is enough for now."""

from homeroom.settings import Settings


class StoreSettings(Settings):
    """Environment: HOMEROOM_DATABASE_URL, HOMEROOM_KAFKA, HOMEROOM_ISSUER … (see `homeroom.settings`)."""
