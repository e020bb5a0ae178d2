"""What one fetch leaves for the next, and fetches that have to begin again (C6, C16)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from homeroom.codes import Code
from homeroom.connections import CsvConnection
from homeroom.messages import Bookmark, Claimed, FetchAbandoned, FetchStarted, Finding, Mode
from homeroom.roster import CANONICAL_VERSION, Org
from provider_gateway.failures import StartOver
from provider_gateway.providers import PROVIDERS
from provider_gateway.providers.contract import Opening, Page, Proof, RawPage, Seen, Source, make_page
from provider_gateway.scope import Scope


class Script:
    """A provider of one collection that does as a test says."""

    kind = "scripted"
    title = "Scripted"
    connection_model = CsvConnection
    capabilities: Mapping[str, Any] = {}

    def __init__(self) -> None:
        self.orgs = {"1": "North", "2": "South"}
        self.unstamped: set[str] = set()
        self.troubles: list[StartOver] = []
        self.modes: list[Mode] = []

    @asynccontextmanager
    async def open(self, opening: Opening) -> AsyncIterator[Source]:
        """A source that reads the script."""
        self.modes.append(opening.mode)
        yield _Scripted(self, opening.mode)


class _Scripted:
    collections = ("orgs",)
    mode_code = None
    increments = True
    refused_schools: Mapping[str, str] = {}

    def __init__(self, script: Script, mode: Mode) -> None:
        self.script = script
        self.mode = mode

    async def pages(self, collection: str, scope: Scope) -> AsyncGenerator[Page, None]:
        assert collection == "orgs"
        records = [Org(sourced_id=key, name=name, type="school") for key, name in self.script.orgs.items()]
        raw = RawPage(received=len(records), records=[*records], unstamped=self.script.unstamped)
        yield make_page(collection, raw, scope)

    def proof(self, collection: str) -> Proof:
        assert collection == "orgs"
        return Proof.CHANGES if self.mode == "delta" else Proof.WHOLE

    async def find(self, collection: str, sourced_id: str, scope: Scope) -> Page | None:
        raise AssertionError(f"nobody is asked for: {collection} {sourced_id} {scope}")

    async def finish(self, seen: Mapping[str, Seen]) -> dict[str, Any]:
        if self.script.troubles:
            raise self.script.troubles.pop(0)
        return {"known": seen["orgs"].known}

    async def remark(self) -> Sequence[Finding]:
        return ()


@pytest.fixture
def script(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> Script:
    """The gateway is connected to a scripted provider."""
    script = Script()
    monkeypatch.setitem(PROVIDERS, script.kind, script)
    gateway.provider, gateway.connection, gateway.secrets = script.kind, {}, {}
    return script


@pytest.mark.usefixtures("script")
async def test_bookmark(gateway: Any) -> None:
    """A fetch hands over when it began and what its provider wants back next time."""
    before = datetime.now(UTC)
    outcome = await gateway.sync()
    bookmark = outcome.completed.bookmark
    assert before <= bookmark.at <= datetime.now(UTC)
    assert (bookmark.state, bookmark.increments, bookmark.distrusted) == ({"known": 0}, True, False)
    assert bookmark.canonical == CANONICAL_VERSION


async def test_changes_only(gateway: Any, script: Script) -> None:
    """Where only changes are read nobody is missing, and the report says that the collection was not read whole."""
    await gateway.sync()
    script.orgs = {"2": "South End"}
    outcome = await gateway.sync(job=gateway.job(mode="delta"))
    assert outcome.completed.mode == "delta"
    report = outcome.reports["orgs"]
    assert (report.whole, report.changed, report.removed, report.unconfirmed) == (False, 1, 0, 0)
    assert gateway.store.ids("orgs") == {"1", "2"}


async def test_begins_again(gateway: Any, script: Script) -> None:
    """A fetch whose increments do not fit together is thrown away and everything is read, in the same attempt."""
    await gateway.sync()
    script.troubles = [StartOver(Code.DELTA_DRIFT, whole=True)]
    script.orgs = {"2": "South End"}
    outcome = await gateway.sync(job=gateway.job(mode="delta"))

    assert script.modes == ["full", "delta", "full"]
    started = [change for change in outcome.changes if isinstance(change, FetchStarted)]
    abandoned = [change for change in outcome.changes if isinstance(change, FetchAbandoned)]
    assert [change.fetch_id for change in abandoned] == [started[0].fetch_id]
    assert outcome.completed.fetch_id == started[1].fetch_id
    assert [fact.fetch_id for fact in outcome.facts if isinstance(fact, Claimed)] == [one.fetch_id for one in started]
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_DRIFT)
    assert outcome.completed.bookmark.distrusted
    assert gateway.store.ids("orgs") == {"2"}


async def test_begins_again_not_for_ever(gateway: Any, script: Script) -> None:
    """A provider whose data change under every fetch ends the run with its code, and the roster stays."""
    await gateway.sync()
    script.troubles = [StartOver(Code.PROV_CHANGED, whole=False)] * 3
    outcome = await gateway.run()
    assert outcome.failure.code is Code.PROV_CHANGED
    assert script.modes == ["full"] * 4
    assert len([one for one in outcome.changes if isinstance(one, FetchAbandoned)]) == 3


async def test_drift(gateway: Any, script: Script) -> None:
    """Records that differ though they say they were not modified make increments distrusted, and are put right."""
    await gateway.sync()
    script.orgs["1"], script.unstamped = "North End", {"1", "2"}
    outcome = await gateway.sync()
    (issue,) = outcome.completed.issues
    assert (issue.code, issue.detail) == (Code.DELTA_DRIFT, "not marked as modified and different all the same: 1")
    assert outcome.completed.bookmark.distrusted
    assert b"North End" in gateway.store.records["orgs"]["1"][1]
    assert (await gateway.sync()).completed.bookmark.distrusted, "only a reset or an edit ends the distrust"


async def test_what_was_edited_by_hand_is_restored(gateway: Any, script: Script) -> None:
    """A record edited by hand has the provider's value after the next sync, an increment too, and is no drift (C9)."""
    await gateway.sync()
    script.unstamped = {"1", "2"}
    for mode, code in (("delta", Code.EDITED_BY_HAND), ("full", None)):
        held = gateway.store.records["orgs"]
        held["1"] = (0, b"{}")
        outcome = await gateway.sync(job=gateway.job(mode=mode))

        assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", code)
        assert b"North" in held["1"][1]
        assert (outcome.reports["orgs"].changed, outcome.reports["orgs"].unchanged) == (1, 1)
        assert not outcome.completed.bookmark.distrusted
        assert outcome.completed.issues == ()
    assert (await gateway.sync(job=gateway.job(mode="delta"))).completed.mode == "delta", "once was enough"


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(
    "change", [{"canonical": CANONICAL_VERSION + 1}, {"increments": False}], ids=["other form", "no increments"]
)
async def test_a_bookmark_of_no_use(gateway: Any, change: dict[str, Any]) -> None:
    """A bookmark that says nothing about changes is not built upon: everything is read, and the run says so."""
    await gateway.sync()
    values = {"at": datetime.now(UTC), "canonical": CANONICAL_VERSION, "increments": True} | change
    outcome = await gateway.run(gateway.job(mode="delta", bookmark=Bookmark(**values)))
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_UNSUPPORTED)
