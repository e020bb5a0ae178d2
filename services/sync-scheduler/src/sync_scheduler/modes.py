"""Whether a run reads everything or only what changed, decided without input or output (C6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from homeroom.codes import Code
from homeroom.messages import Bookmark, Mode
from homeroom.roster import CANONICAL_VERSION

Asked = Literal["auto", "full"]
Gone = Literal["reset", "edit", "sync", "hold", "restore"]
"""What took the bookmark away."""

_WITHOUT_BOOKMARK: dict[Gone | None, str] = {
    None: "this is the first sync",
    "reset": "the integration was reset",
    "edit": "the settings were edited since the last sync",
    "sync": "the last sync left nothing that changes could be counted from",
    "hold": "something of the last sync was held, so changes alone would not do",
    "restore": "an earlier state of the roster was brought back since the last sync",
}


_WEEK = timedelta(days=7)


class Choice(NamedTuple):
    """What a run is to read and why."""

    mode: Mode
    sentence: str
    code: Code | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of an integration's syncs so far."""

    bookmark: Bookmark | None = None
    gone: Gone | None = None
    """Why there is no bookmark; None where there never was one."""
    last_full_at: datetime | None = None
    uploaded: bool = False
    """Whether the provider is fed by files: then a set is what it is, and nobody can ask for another."""


def choose(asked: Asked, past: Past, *, now: datetime, full_every: timedelta) -> Choice:
    """What the next run reads. Everything is compared when in doubt, and at least every `full_every`."""
    bookmark = past.bookmark
    if past.uploaded:
        return Choice("full", "The files say whether they hold everything or only what changed.")
    if asked == "full":
        return _read_everything("it was asked for")
    if bookmark is None:
        return _read_everything(_WITHOUT_BOOKMARK[past.gone])
    if objection := _object_to(bookmark):
        return objection
    if past.last_full_at is None or past.last_full_at + full_every <= now:
        often = "weekly" if full_every == _WEEK else f"every {full_every / timedelta(days=1):g} days"
        return _read_everything(f"everything is compared {often}")
    return Choice("delta", f"Only what changed since {bookmark.at:%Y-%m-%d %H:%M} UTC is read.")


def _object_to(bookmark: Bookmark) -> Choice | None:
    """Why changes since a bookmark would not do."""
    if bookmark.distrusted:
        return _read_everything("increments from this provider were found wrong", Code.DELTA_DRIFT)
    if not bookmark.increments:
        return _read_everything("the last sync left nothing that changes alone could build on")
    if bookmark.canonical != CANONICAL_VERSION:
        return _read_everything("records are compared in another form since an update of Homeroom")
    return None


def tell_turn(mode: Mode, code: Code | None) -> str:
    """What the log says when a fetch came to another mode than was chosen, or for a reason of its own."""
    sentence = "Everything was read and compared" if mode == "full" else "Only what changed was read"
    return f"{sentence}. {code.entry.title}." if code else f"{sentence}."


def _read_everything(why: str, code: Code | None = None) -> Choice:
    return Choice("full", f"Everything is read: {why}.", code)
