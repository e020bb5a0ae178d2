"""The store's settings, beside what every service has."""

from pydantic import Field

from homeroom.settings import Settings


class StoreSettings(Settings):
    """Environment: HOMEROOM_DATABASE_URL, HOMEROOM_KAFKA, HOMEROOM_ISSUER … (see `homeroom.settings`)."""

    missing_hours: float = Field(
        default=1, ge=0, description="how long after the first a second run must have missed a record to remove it"
    )
    hold_days: float = Field(default=7, gt=0, description="how long what is held waits for a decision")
    history_days: float = Field(
        default=30, ge=1, description="how long runs can be undone: the history of changed rows"
    )
    plan_days: float = Field(default=7, gt=0, description="how long reports of evaluated and held plans are kept")
