"""Asking OneRoster servers for changes only: when it is done, and when it is not believed (C6, P11)."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, Response

from homeroom.codes import Code
from homeroom.messages import Bookmark
from homeroom.roster import CANONICAL_VERSION
from provider_gateway.providers import _oneroster_increments as increments
from provider_gateway.providers.contract import Seen
from sandbox_district import faults
from sandbox_district.server import Sandbox, create_district, running_sandbox

LONG_AGO = "2026-01-01T00:00:00.000Z"
_FILTER = re.compile(r"dateLastModified>='([^']+)'")


def stamp(**ago: float) -> str:
    """A moment before now, as OneRoster writes it."""
    return increments.write_moment(datetime.now(UTC) - timedelta(**ago))


class Registry:
    """Answers for a `TinyProvider` as a server that knows filters by dateLastModified, or pretends to."""

    def __init__(self, provider: Any) -> None:
        self.provider = provider
        self.filters = "honoured"
        self.counted = True
        self.clock_ahead = 0.0
        self.before_list: Any = None
        provider.answer = self.answer

    def answer(self, collection: str, query: dict[str, str], rows: list[Any]) -> Response | None:
        """A page, filtered."""
        if "limit" not in query:
            return None
        if self.before_list:
            self.before_list(collection, query)
            rows = self.provider.collections[collection]
        if "filter" in query:
            match self.filters:
                case "refused":
                    return JSONResponse({"imsx_codeMinor": "invalid_filter_field"}, 400)
                case "empty":
                    rows = []
                case "honoured":
                    found = _FILTER.fullmatch(query["filter"])
                    assert found, query
                    rows = [row for row in rows if row.get("dateLastModified", "") >= found[1]]
        start, limit = int(query["offset"]), int(query["limit"])
        moment = datetime.now(UTC) + timedelta(seconds=self.clock_ahead)
        headers = {"date": format_datetime(moment, usegmt=True)}
        if self.counted:
            headers["x-total-count"] = str(len(rows))
        return Response(msgspec.json.encode({collection: rows[start : start + limit]}), headers=headers)

    def edit(self, number: int, when: str | None = None, **fields: Any) -> None:
        """Change a user, stamped now."""
        user = self.provider.collections["users"][number]
        user |= {"dateLastModified": when or stamp()} | fields

    def list_filters(self, collection: str = "users") -> list[str]:
        """The filters that were asked for."""
        return [
            query["filter"]
            for path, query in self.provider.queries
            if path.endswith(f"/{collection}") and "filter" in query and query["limit"] != "1"
        ]


@pytest.fixture
def registry(provider: Any, user: Any) -> Registry:
    """Twenty users that were not touched for long, and an enrollment."""
    provider.collections["users"] = [user(number, dateLastModified=LONG_AGO) for number in range(20)]
    provider.collections["orgs"] = [{"sourcedId": "s1", "name": "North", "type": "school"}]
    provider.collections["enrollments"] = [
        {
            "sourcedId": "e1",
            "dateLastModified": LONG_AGO,
            "role": "student",
            "user": {"sourcedId": "u1"},
            "class": {"sourcedId": "c1"},
        }
    ]
    return Registry(provider)


async def sync(gateway: Any, mode: str = "delta", **settings: Any) -> Any:
    """A run of a mode, with the bookmark of the last one."""
    return await gateway.sync(job=gateway.job(mode=mode), **settings)


@pytest.mark.parametrize(
    ("filters", "filtered"),
    [("honoured", ["enrollments", "users"]), ("ignored", []), ("empty", []), ("refused", [])],
)
async def test_filters_are_probed(gateway: Any, registry: Registry, filters: str, filtered: list[str]) -> None:
    """Increments are used only where a date in the far future brings nothing and one long ago brings something."""
    registry.filters = filters
    outcome = await sync(gateway, "full")

    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", None)
    assert gateway.bookmark.increments is bool(filtered)
    assert gateway.bookmark.state["filtered"] == filtered, "orgs have no stamps, so their filter finds none of them"


async def test_only_changes_come(gateway: Any, registry: Registry, provider: Any, user: Any) -> None:
    """An increment serves what changed, adds, changes and removes by it, and leaves everybody else where they are."""
    await sync(gateway, "full")
    registry.edit(3, familyName="Changed")
    registry.edit(4, status="tobedeleted")
    provider.collections["users"].append(user(99, dateLastModified=stamp()))
    outcome = await sync(gateway)

    report = outcome.reports["users"]
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("delta", None)
    assert (report.whole, report.served, report.added, report.changed, report.removed) == (False, 3, 1, 1, 1)
    assert outcome.reports["orgs"].whole, "a collection whose filter is not honoured is read whole"
    assert gateway.store.ids("users") == {f"u{number}" for number in (*range(20), 99)} - {"u4"}
    assert gateway.bookmark.increments
    assert not gateway.bookmark.distrusted


async def test_nothing_changed(gateway: Any, registry: Registry) -> None:
    """Where nothing changed, an increment serves nothing of the big collections and publishes nothing."""
    await sync(gateway, "full")
    outcome = await sync(gateway)
    assert outcome.chunks == []
    assert outcome.reports["users"].served == outcome.reports["enrollments"].served == 0
    assert len(registry.list_filters()) == 1


async def test_overlap_is_harmless(gateway: Any, registry: Registry) -> None:
    """What was changed within the overlap comes again with every increment and changes nothing a second time."""
    await sync(gateway, "full")
    registry.edit(3, familyName="Changed")
    await sync(gateway)
    again = await sync(gateway)
    assert again.reports["users"].unchanged == 1
    assert again.chunks == []
    assert not gateway.bookmark.distrusted


@pytest.mark.parametrize(("ahead", "minutes"), [(0.0, 10), (-3600.0, 70), (3600.0, 10)])
async def test_since_when(
    gateway: Any, registry: Registry, provider: Any, serve: Any, ahead: float, minutes: int
) -> None:
    """Changes are asked for since the last run began, less ten minutes and whatever the server's clock is behind."""
    gateway.point_at(await serve(provider, date_header=False))
    registry.clock_ahead = ahead
    await sync(gateway, "full")
    expected = gateway.bookmark.at - timedelta(minutes=minutes)
    await sync(gateway)

    (asked,) = registry.list_filters()
    found = _FILTER.fullmatch(asked)
    assert found
    assert abs(datetime.fromisoformat(found[1]) - expected) < timedelta(seconds=5)


async def test_stamps_by_day(gateway: Any, registry: Registry, provider: Any) -> None:
    """A server that stamps by the day is asked by a day, so that what changed later that day comes too."""
    for row in provider.collections["users"]:
        row["dateLastModified"] = "2026-01-01"
    await sync(gateway, "full")
    assert gateway.bookmark.state["byDay"] == ["users"]
    registry.edit(3, when=datetime.now(UTC).strftime("%Y-%m-%d"), familyName="Changed")
    outcome = await sync(gateway)

    assert outcome.reports["users"].changed == 1
    assert re.fullmatch(r"dateLastModified>='\d{4}-\d\d-\d\d'", registry.list_filters()[0])


@pytest.mark.usefixtures("registry")
async def test_purged_without_a_word(gateway: Any, provider: Any) -> None:
    """A record that vanished without a tombstone shows in the counts: all is read, and increments are distrusted."""
    await sync(gateway, "full")
    del provider.collections["users"][7]
    outcome = await sync(gateway)

    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_DRIFT)
    assert "u7" not in gateway.store.ids("users")
    assert Code.DELTA_DRIFT in {issue.code for issue in outcome.completed.issues}
    assert gateway.bookmark.distrusted


@pytest.mark.usefixtures("registry")
async def test_added_without_a_stamp(gateway: Any, provider: Any, user: Any) -> None:
    """A new record with an old stamp shows in the counts as well."""
    await sync(gateway, "full")
    provider.collections["users"].append(user(99, dateLastModified=LONG_AGO))
    outcome = await sync(gateway)
    assert outcome.completed.mode_code == Code.DELTA_DRIFT
    assert "u99" in gateway.store.ids("users")


async def test_purge_of_a_server_that_counts_nothing(gateway: Any, registry: Registry, provider: Any) -> None:
    """Without counts an increment can't notice a purge; nothing is removed by it, and the next full run finds it."""
    registry.counted = False
    await sync(gateway, "full")
    del provider.collections["users"][7]
    outcome = await sync(gateway)
    assert outcome.completed.mode == "delta"
    assert "u7" in gateway.store.ids("users")

    await sync(gateway, "full")
    assert "u7" not in gateway.store.ids("users")


async def test_counts_of_what_is_left_out(gateway: Any, registry: Registry, provider: Any, user: Any) -> None:
    """People whom the options leave out, damaged records that are mended and tombstones are no drift."""
    provider.collections["users"][5]["role"] = "parent"
    provider.collections["users"][6]["role"] = "wizard"
    await sync(gateway, "full")
    provider.collections["users"].append(user(98, role="parent", dateLastModified=stamp()))
    provider.collections["users"].append(user(99, role="wizard", dateLastModified=stamp()))
    registry.edit(6, role="student")
    registry.edit(8, status="tobedeleted")
    outcome = await sync(gateway)

    assert outcome.completed.mode == "delta"
    assert (outcome.reports["users"].added, outcome.reports["users"].removed) == (1, 1)
    registry.edit(8, status="active")
    assert (await sync(gateway)).completed.mode == "delta", "a record that comes back is no new row"


async def test_edit_in_the_middle(gateway: Any, registry: Registry, provider: Any, user: Any) -> None:
    """A record added between its page and the count is no drift: the changes are asked for once more."""
    await sync(gateway, "full")

    def add(collection: str, query: dict[str, str]) -> None:
        if collection == "users" and "filter" not in query:
            provider.collections["users"].append(user(99, dateLastModified=stamp()))
            registry.before_list = None

    registry.before_list = add
    outcome = await sync(gateway)
    assert outcome.completed.mode == "delta"
    assert outcome.reports["users"].added == 1
    assert not gateway.bookmark.distrusted


async def test_filter_that_is_refused_later(gateway: Any, registry: Registry) -> None:
    """A server that stops honouring its filter is read whole, and the run says why."""
    await sync(gateway, "full")
    registry.filters = "refused"
    outcome = await sync(gateway)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_UNSUPPORTED)
    assert not gateway.bookmark.increments


@pytest.mark.usefixtures("registry")
async def test_bookmark_without_filters(gateway: Any) -> None:
    """A bookmark that says nothing of filters, or holds nonsense, leads to a full run that says so."""
    for state in ({}, {"filtered": "users", "stated": 3, "skew": "x"}):
        gateway.bookmark = Bookmark(at=datetime.now(UTC), canonical=CANONICAL_VERSION, state=state, increments=True)
        outcome = await sync(gateway)
        assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_UNSUPPORTED)
        assert len(gateway.store.ids("users")) == 20


STAMPS_OF_OLD = [LONG_AGO, "2026-01-01", "2026-01-01T00:00:00+00:00", "2026-01-01T05:00:00", "2026-01-01T00:00:00Z"]


@pytest.mark.parametrize("old", STAMPS_OF_OLD)
async def test_unstamped_change(gateway: Any, registry: Registry, old: str) -> None:
    """A change whose stamp stayed old is found by the next full run, which mends it and distrusts increments."""
    await sync(gateway, "full")
    registry.edit(3, when=old, familyName="Changed")
    assert (await sync(gateway)).reports["users"].changed == 0
    outcome = await sync(gateway, "full")

    assert outcome.reports["users"].changed == 1
    assert [issue.code for issue in outcome.completed.issues] == [Code.DELTA_DRIFT]
    assert gateway.bookmark.distrusted
    assert (await sync(gateway, "full")).reports["users"].changed == 0
    assert gateway.bookmark.distrusted, "that one run was right again proves nothing"


@pytest.mark.parametrize("when", [None, "", "yesterday", "2999-01-01"])
async def test_stamped_change_is_no_drift(gateway: Any, registry: Registry, provider: Any, when: str | None) -> None:
    """A change with a new stamp, or one that can't be read, says nothing against increments."""
    await sync(gateway, "full")
    registry.edit(3, familyName="Changed")
    if when is not None:
        provider.collections["users"][3]["dateLastModified"] = when
    outcome = await sync(gateway, "full")
    assert outcome.reports["users"].changed == 1
    assert not gateway.bookmark.distrusted
    assert outcome.completed.issues == ()


SINCE = "2026-03-01T12:00:00.000Z"


@pytest.mark.parametrize(
    ("text", "older"),
    [
        ("2026-03-01T11:59:59.999Z", True),
        ("2026-03-01T12:00:00.000Z", False),
        ("2026-03-01T12:00:00Z", False),
        ("2026-03-01T11:59:59Z", True),
        ("2026-03-01T06:59:59-05:00", True),
        ("2026-03-01T07:00:00-05:00", False),
        ("2026-03-01T14:00:00", False),
        ("2026-03-01T00:30:00", False),
        ("2026-02-28T23:00:00", True),
        ("2026-03-01", False),
        ("2026-02-27", True),
        ("9999-12-31T23:59:59", False),
        ("0001-01-01T00:00:00", True),
        ("0000-00-00", False),
        ("", False),
        (None, False),
        (20260301, False),
    ],
)
def test_older_stamps(text: Any, older: bool) -> None:
    """A stamp is older only if the latest moment it may mean is."""
    assert increments.is_older(text, SINCE) is older


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis wants bounds without a zone
def test_every_form_says_the_same(moment: datetime) -> None:
    """OneRoster's own form and Python's give the same answer for any moment, to the millisecond."""
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000)
    assert increments.is_older(increments.write_moment(moment), SINCE) is increments.is_older(moment.isoformat(), SINCE)


@given(st.text(max_size=40))
def test_any_stamp(text: str) -> None:
    """No stamp breaks a page."""
    assert increments.is_older(text, SINCE) in {True, False}


@pytest.mark.parametrize(
    ("then", "now", "seen", "fit"),
    [
        (100, 100, Seen(100, 0, 5, 0, 0), True),
        (100, 103, Seen(100, 3, 0, 0, 0), True),
        (100, 102, Seen(100, 3, 0, 0, 0), False),
        (100, 104, Seen(100, 3, 0, 0, 0), False),
        (100, 105, Seen(100, 3, 0, 0, 2), True),
        (100, 106, Seen(100, 3, 0, 0, 2), False),
        (100, 99, Seen(100, 0, 0, 0, 0), False),
        (100, 100, Seen(98, 2, 0, 0, 0), True),
        (100, 99, Seen(98, 2, 0, 0, 0), False),
        (100, 100, Seen(100, 0, 0, 1, 1), True),
    ],
)
def test_counts(then: int, now: int, seen: Seen, fit: bool) -> None:
    """Counts before and after fit if the rows that came explain the difference, and no row vanished."""
    assert increments.fits(then, now, seen) is fit


@pytest.fixture
async def sandbox(gateway: Any) -> AsyncIterator[Sandbox]:
    """A district of 60 students that checks signatures and honours filters."""
    async with running_sandbox(create_district(seed=5, students=60)) as sandbox:
        gateway.point_at(sandbox.url, client_id=sandbox.client_id, token_url=sandbox.token_url)
        gateway.secrets = {"client_secret": sandbox.client_secret}
        yield sandbox


@pytest.mark.parametrize("auth", ["oauth1", "oauth2"])
async def test_edits_by_increments(gateway: Any, sandbox: Sandbox, auth: str) -> None:
    """Edit by edit, increments keep the roster as it is at the provider; the filter is part of what is signed."""
    gateway.connection |= {"auth": auth}
    options = {"sync_parents": True, "sync_demographics": True}
    await gateway.sync(options=options)
    district = sandbox.district
    for number in range(3):
        one, other = list(district.active("enrollments"))[number : number + 2]
        district.change(partial(district.amend, "enrollments", one, status="tobedeleted"))
        district.change(partial(district.amend, "enrollments", other, beginDate="2026-01-01"))
        outcome = await gateway.sync(job=gateway.job(mode="delta", options=options))
        assert outcome.completed.mode == "delta"
        assert outcome.reports["enrollments"].served < 10
        truth = district.truth()
        assert {collection: gateway.store.ids(collection) for collection in truth} == truth
    assert not gateway.bookmark.distrusted


async def test_days_that_are_not_told(gateway: Any, sandbox: Sandbox) -> None:
    """A provider that purges and leaves edits unstamped is found out, and its roster is right after each full run."""
    sandbox.faults.replace(faults.PurgedDeletions(), faults.UnstampedChanges(share=0.5))
    await gateway.sync()
    for _ in range(3):
        sandbox.district.advance_day()
        await gateway.sync(job=gateway.job(mode="delta"))
    await gateway.sync()  # which a provider that is distrusted gets every night
    assert gateway.store.ids("enrollments") == sandbox.district.truth()["enrollments"]
    assert gateway.bookmark.distrusted
