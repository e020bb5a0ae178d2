"""Whether a run reads everything or only what changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from homeroom.codes import Code
from homeroom.messages import Bookmark
from homeroom.roster import CANONICAL_VERSION
from sync_scheduler.modes import Asked, Past, choose, tell_turn

NOW = datetime(2026, 9, 8, 18, 0, tzinfo=UTC)
WEEK = timedelta(days=7)
BOOKMARK = Bookmark(at=NOW - timedelta(days=1), canonical=CANONICAL_VERSION, increments=True)
PAST = Past(bookmark=BOOKMARK, last_full_at=NOW - timedelta(days=6))


def test_changes_only() -> None:
    """With a bookmark of a provider that can be asked for changes, only changes are read, and since when is said."""
    choice = choose("auto", PAST, now=NOW, full_every=WEEK)

    assert choice == ("delta", "Only what changed since 2026-09-07 18:00 UTC is read.", None)


@pytest.mark.parametrize(
    ("past", "why", "code"),
    [
        (Past(), "first sync", None),
        (Past(gone="reset"), "reset", None),
        (Past(gone="edit"), "edited", None),
        (Past(gone="sync"), "last sync left nothing", None),
        (replace(PAST, bookmark=msgspec.structs.replace(BOOKMARK, increments=False)), "alone could build", None),
        (
            replace(PAST, bookmark=msgspec.structs.replace(BOOKMARK, distrusted=True)),
            "found wrong",
            Code.DELTA_DRIFT,
        ),
        (replace(PAST, bookmark=msgspec.structs.replace(BOOKMARK, canonical=0)), "another form", None),
        (replace(PAST, last_full_at=NOW - WEEK), "weekly", None),
        (replace(PAST, last_full_at=None), "weekly", None),
    ],
)
def test_everything(past: Past, why: str, code: Code | None) -> None:
    """Everything is read where changes can't be counted from, can't be had or can't be trusted, and weekly (C6)."""
    choice = choose("auto", past, now=NOW, full_every=WEEK)

    assert (choice.mode, choice.code) == ("full", code)
    assert why in choice.sentence


def test_asked_for() -> None:
    """Who asks for everything gets everything."""
    choice = choose("full", PAST, now=NOW, full_every=WEEK)

    assert choice == ("full", "Everything is read: it was asked for.", None)


@pytest.mark.parametrize(("passed", "mode"), [(WEEK - timedelta(seconds=1), "delta"), (WEEK, "full")])
def test_the_week(passed: timedelta, mode: str) -> None:
    """A week after the last full comparison, to the second, the next one is due."""
    assert choose("auto", replace(PAST, last_full_at=NOW - passed), now=NOW, full_every=WEEK).mode == mode


def test_another_week() -> None:
    """An installation may compare everything more often, and the log says how often."""
    choice = choose("auto", PAST, now=NOW, full_every=timedelta(days=1.5))

    assert choice.sentence == "Everything is read: everything is compared every 1.5 days."


@pytest.mark.parametrize("change", [{}, {"last_full_at": None}, {"bookmark": None}, {"bookmark": None, "gone": "edit"}])
@pytest.mark.parametrize("asked", ["auto", "full"])
def test_uploads_are_what_they_are(asked: Asked, change: dict[str, Any]) -> None:
    """Whether uploaded files hold everything is said by them alone, and nothing else is claimed before."""
    choice = choose(asked, replace(PAST, uploaded=True, **change), now=NOW, full_every=WEEK)

    assert choice == ("full", "The files say whether they hold everything or only what changed.", None)


def test_turns_are_told() -> None:
    """The log says in words what a fetch came to and why."""
    assert tell_turn("full", Code.CLEVER_EVENTS_GAP) == (
        "Everything was read and compared. Clever no longer has the events since the last sync."
    )
    assert tell_turn("delta", None) == "Only what changed was read."
