"""Named moments at which a test may end a process, as kill -9 would (reliability facts §3.3).

Between any two effects of a run (a row, a message, an offset) stands a `faultpoint`. It does nothing unless
HOMEROOM_FAULTPOINTS names a folder: then a file there with the point's name is removed and the process kills itself.
The crash tests arm every point in turn and check that nothing is lost, and that no point goes unreached.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_FOLDER = os.environ.get("HOMEROOM_FAULTPOINTS")

POINTS = frozenset(
    {
        "scheduler.run-created",
        "scheduler.job-published",
        "scheduler.facts-applied",
        "gateway.job-taken",
        "gateway.claimed",
        "gateway.fetch-started",
        "gateway.chunk-sent",
        "gateway.all-sent",
        "gateway.completed-sent",
        "store.fetch-started",
        "store.chunks-staged",
        "store.applying",
        "store.applied",
        "store.fact-published",
        "relay.events-sent",
    }
)


def faultpoint(name: str) -> None:
    """End the process here and now if a test has armed this point."""
    if _FOLDER is None:
        return
    if name not in POINTS:
        msg = f"{name} is no declared fault point"
        raise ValueError(msg)
    with suppress(FileNotFoundError):
        (Path(_FOLDER) / name).unlink()
        os.kill(os.getpid(), signal.SIGKILL)
