"""When what an endpoint did not take is tried again, and when it has failed for too long."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

PAUSES: Final = tuple(timedelta(seconds=seconds) for seconds in (5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600))
"""After the first failed try, the second, and so on; the last one from then on."""
LATEST: Final = 1.1
"""So many times as long a pause may be, so that endpoints which failed together are not asked together."""
ASKED_LEAST: Final = timedelta(seconds=1)
ASKED_MOST: Final = timedelta(hours=1)
"""An endpoint may ask for any pause between these two (Retry-After)."""
PATIENCE: Final = timedelta(days=5)
"""An endpoint that has failed for so long is asked no more until somebody enables it."""


def find_pause(failures: int, asked: float | None, late: float | None = None) -> timedelta:
    """How long to wait after a failed try.

    Args:
        failures: how many there were in a row, this one included.
        asked: the seconds the endpoint asks for, if it does.
        late: how much of the span to `LATEST` is added, from 0 to 1; by chance if not given.
    """
    if asked is not None:
        pause = min(max(timedelta(seconds=asked), ASKED_LEAST), ASKED_MOST)
    else:
        pause = PAUSES[min(failures, len(PAUSES)) - 1]
    return pause * (1 + (LATEST - 1) * (random.random() if late is None else late))


def is_over(failing_since: datetime, now: datetime) -> bool:
    """Whether it has failed for so long that it is disabled."""
    return now - failing_since >= PATIENCE
