"""Named moments at which a test may end a process, as kill -9 would, or freeze it (reliability facts §3.3).

Between any two effects of a run (a row, a message, an offset) stands a `faultpoint`. It does nothing unless
HOMEROOM_FAULTPOINTS names a folder: then a file there with the point's name is removed, and what was written in it
happens. `kill`, or nothing: the process kills itself. `stop`: it stops as by SIGSTOP and goes on when a test continues
it, long after others may have taken its work over: a zombie, whose late writes must be refused.

The crash tests arm every point in turn and check that nothing is lost, and that no point goes unreached.
"""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

_FOLDER = os.environ.get("HOMEROOM_FAULTPOINTS")
_SIGNALS = {"": signal.SIGKILL, "kill": signal.SIGKILL, "stop": signal.SIGSTOP}

POINTS = frozenset(
    {
        "scheduler.run-created",
        "scheduler.job-published",
        "scheduler.facts-applied",
        "scheduler.decision-published",
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
        "store.held",
        "store.decided",
        "store.fact-published",
        "relay.events-sent",
    }
)


def faultpoint(name: str) -> None:
    """End or freeze the process here and now if a test has armed this point."""
    if _FOLDER is None:
        return
    if name not in POINTS:
        msg = f"{name} is no declared fault point"
        raise ValueError(msg)
    armed = Path(_FOLDER) / name
    with suppress(FileNotFoundError):
        order = armed.read_text("utf-8").strip()
        armed.unlink()  # of several processes only the one that removes the file is struck
        os.kill(os.getpid(), _SIGNALS[order])
