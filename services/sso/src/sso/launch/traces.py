"""What became of a launch: a short story in ids and codes of ours, found by an id that can be read out loud.

A trace never holds a name, a claim, an address or a secret; the only ids of people in it are sourcedIds of the roster,
which go with an erasure. It is kept for a month, then only its outcome is counted.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from uuid import UUID

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.ids import new_id
from homeroom.telemetry import LAUNCHES, get_logger
from sso.statements import SQL

Purpose = Literal["launch", "authorize", "link", "staff", "test"]
"""Why somebody signs in: to open a product from a portal; because a product asked us; to connect an account; to use
Homeroom itself; or to try a connection out."""
State = Literal["begun", "signed-in", "completed", "refused"]

_ALPHABET: Final = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's: no letters that are taken for others."""
MOST_STEPS: Final = 40
MOST_CHARACTERS: Final = 200

log = get_logger(__name__)


def make_support_id() -> str:
    """An id for the telephone, as `HR-7K3M-92QX`: 40 random bits."""
    chance = secrets.randbits(40)
    text = "".join(_ALPHABET[chance >> shift & 31] for shift in range(0, 40, 5))
    return f"HR-{text[:4]}-{text[4:]}"


def read_support_id(text: str) -> str | None:
    """A support id as somebody typed it: case, spaces and letters that look like digits don't matter; None if none."""
    plain = "".join(text.upper().replace("-", "").split()).removeprefix("HR")
    plain = plain.translate(str.maketrans("ILO", "110"))
    if len(plain) != 8 or not set(plain) <= set(_ALPHABET):  # noqa: PLR2004 - as many as are made
        return None
    return f"HR-{plain[:4]}-{plain[4:]}"


def _shorten(value: object) -> str:
    """A word of ours; should something else ever come here, it is neither long nor does it hold more than one line."""
    return "".join(one if one.isprintable() else " " for one in str(value)[:MOST_CHARACTERS])


def holds(text: str) -> bool:
    """Whether a step shows a text as it is, neither shortened nor changed."""
    return _shorten(text) == text


@dataclass(slots=True)
class Trace:
    """The trace of one launch while a request works on it; `Launches.write` keeps what was noted."""

    id: UUID
    support_id: str
    purpose: Purpose
    clock: Clock
    kind: str = ""
    """The upstream's kind, for the metric."""
    steps: list[dict[str, Any]] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    """Columns of `launch` that became known: connection_id, organization_id, integration_id, sourced_id, product_id."""

    def note(self, what: str, **ids: object) -> None:
        """Write down a step: what happened, and ids of ours, codes and numbers beside it."""
        said = {name: value if isinstance(value, int | float) else _shorten(value) for name, value in ids.items()}
        if len(self.steps) < MOST_STEPS:
            self.steps.append({"at": self.clock.now().isoformat(timespec="milliseconds"), "what": what, **said})

    def take(self) -> list[dict[str, Any]]:
        """The steps noted since the last time."""
        taken, self.steps = self.steps, []
        return taken


class Launches:
    """The traces of launches, in the database."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def begin(self, purpose: Purpose, kind: str = "") -> Trace:
        """A trace with new ids; it is kept by whatever writes first."""
        return Trace(new_id(), make_support_id(), purpose, self._clock, kind)

    def resume(self, launch_id: UUID, support_id: str, purpose: Purpose, kind: str = "") -> Trace:
        """The trace of a launch that began in an earlier request."""
        return Trace(launch_id, support_id, purpose, self._clock, kind)

    async def write(self, trace: Trace, state: State | None = None, code: Code | None = None) -> None:
        """Keep what was noted, and how the launch stands. What has ended stays as it ended."""
        facts = trace.facts
        ended = await self._database.fetchval(
            SQL["write_launch"],
            trace.id,
            trace.support_id,
            trace.purpose,
            trace.take(),
            state,
            None if code is None else str(code),
            *(facts.get(name) for name in ("upstream_id", "connection_id", "organization_id")),
            *(facts.get(name) for name in ("integration_id", "sourced_id", "product_id")),
        )
        if ended:
            LAUNCHES.labels(trace.kind or "none", trace.purpose, str(code or "completed")).inc()
            log.info("launch ended", launch_id=str(trace.id), support_id=trace.support_id, outcome=str(code or state))
