"""The gateway against the sandbox district: everything it serves arrives, nothing else, and trouble has its code."""

import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from homeroom.codes import Code
from homeroom.ids import new_id
from homeroom.messages import FetchAbandoned, FetchCompleted
from provider_gateway.inbox.folder import FolderStore
from provider_gateway.inbox.storage import StoredUploads
from sandbox_district import faults
from sandbox_district.server import Sandbox, create_district, running_sandbox

EVERYTHING = {"sync_parents": True, "sync_demographics": True}


@pytest.fixture
async def sandbox(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sandbox]:
    """A district of 60 students, and a gateway that is less patient than in earnest."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.05)
    async with running_sandbox(create_district(seed=3, students=60)) as sandbox:
        gateway.point_at(sandbox.url, client_id=sandbox.client_id)
        gateway.secrets = {"client_secret": sandbox.client_secret}
        yield sandbox


def assert_everything_is_there(gateway: Any, sandbox: Sandbox) -> None:
    truth = sandbox.district.truth()
    assert {collection: gateway.store.ids(collection) for collection in truth} == truth


@pytest.mark.parametrize(
    "connection",
    [{"auth": "oauth1"}, {"auth": "oauth1", "signature_method": "HMAC-SHA1"}, {"auth": "oauth2"}],
    ids=["HMAC-SHA256", "HMAC-SHA1", "OAuth 2"],
)
async def test_first_sync(gateway: Any, sandbox: Sandbox, connection: dict[str, str]) -> None:
    """A first sync brings every active record into the store, and a second one publishes nothing."""
    gateway.point_at(sandbox.url, client_id=sandbox.client_id, token_url=sandbox.token_url, **connection)

    await gateway.sync(options=EVERYTHING)
    assert_everything_is_there(gateway, sandbox)

    again = await gateway.sync(options=EVERYTHING)
    assert again.chunks == []


async def test_days(gateway: Any, sandbox: Sandbox) -> None:
    """After each day exactly the records that changed are published, and the leavers go though no tombstone says so."""
    await gateway.sync(options=EVERYTHING)
    for _ in range(5):
        changes = sandbox.district.advance_day()
        outcome = await gateway.sync(options=EVERYTHING)

        assert_everything_is_there(gateway, sandbox)
        for collection, report in outcome.reports.items():
            change = changes[collection]
            assert (report.added, report.changed, report.removed) == tuple(
                map(len, (change.added, change.changed, change.removed))
            ), collection


async def test_counts(gateway: Any, sandbox: Sandbox) -> None:
    """Every record that was served is counted as exactly one of added, changed, unchanged, filtered, quarantined."""
    sandbox.faults.replace(faults.BadRecords(path="/users", rows=8), faults.IgnoreSort(restless=True))
    outcome = await gateway.run(options={"sync_parents": False}, page_size=50)

    for report in outcome.reports.values():
        parts = report.added + report.changed + report.unchanged + report.filtered + report.quarantined
        assert report.served == parts


HARMLESS = [
    faults.RateLimit(every=4, retry_after=0.02),
    faults.RateLimit(path="/users", times=2, retry_after=1, as_date=True),
    faults.RateLimit(path="/users", times=2, retry_after=None),
    faults.ServerError(every=4),
    faults.ServerError(path="/users", times=4, status=503),
    faults.Truncate(path="/users", times=2),
    faults.HangUp(path="/users", times=2),
    faults.BareArray(),
    faults.Clamp(limit=17),
    faults.NullMetadata(),
    faults.StringBooleans(),
    faults.BothRoles(),
    faults.NoCounts(),
    faults.WrongCounts(by=7),
    faults.WrongCounts(by=-7),
    faults.IgnoreSort(),
    faults.Slow(seconds=0.1),
    faults.HtmlLogin(path="/users", times=1),
    faults.ErrorEnvelope(path="/users", times=1),
]


@pytest.mark.parametrize("fault", HARMLESS, ids=lambda fault: repr(fault)[:60])
async def test_trouble_that_is_overcome(gateway: Any, sandbox: Sandbox, fault: faults.Fault) -> None:
    """What a provider does wrong but can be dealt with changes nothing about the result."""
    await gateway.sync(options=EVERYTHING, page_size=50)
    sandbox.district.advance_day()
    sandbox.faults.replace(fault)
    await gateway.sync(options=EVERYTHING, page_size=50)

    assert_everything_is_there(gateway, sandbox)


FATAL = [
    (faults.RateLimit(path="/enrollments", retry_after=0.01), Code.PROV_RATE_LIMITED),
    (faults.ServerError(path="/enrollments"), Code.PROV_5XX),
    (faults.HtmlLogin(path="/users"), Code.PROV_BAD_PAYLOAD),
    (faults.ErrorEnvelope(path="/users"), Code.PROV_BAD_PAYLOAD),
    (faults.Unauthorized(), Code.AUTH_INVALID),
    (faults.Forbidden(path="/demographics"), Code.PROV_SCOPE),
    (faults.Forbidden(), Code.PROV_SCOPE),
    (faults.Truncate(path="/users"), Code.PROV_BAD_PAYLOAD),
    (faults.HangUp(path="/users"), Code.PROV_BAD_PAYLOAD),
    (faults.Slow(path="/users", seconds=3), Code.PROV_TIMEOUT),
    (faults.Drip(path="/users", size=8, seconds=0.05), Code.PROV_TIMEOUT),
]


@pytest.mark.parametrize(("fault", "code"), FATAL, ids=lambda value: repr(value)[:60])
async def test_trouble_that_ends_a_run(gateway: Any, sandbox: Sandbox, fault: faults.Fault, code: Code) -> None:
    """A provider that goes on failing ends the run with its code, and nothing is applied."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(fault)
    outcome = await gateway.run(options=EVERYTHING, page_seconds=0.3)

    assert outcome.failure.code == code
    assert not outcome.failure.again
    assert not outcome.changes or isinstance(outcome.changes[-1], FetchAbandoned)
    assert all(one.code == code for one in outcome.changes if isinstance(one, FetchAbandoned))
    assert not any(isinstance(change, FetchCompleted) for change in outcome.changes)


async def test_token_expiry(gateway: Any, sandbox: Sandbox) -> None:
    """A token that runs out every three requests is renewed, and the run goes on at the same page."""
    gateway.point_at(sandbox.url, auth="oauth2", client_id=sandbox.client_id, token_url=sandbox.token_url)
    sandbox.faults.replace(faults.TokenExpiry(requests=3))

    await gateway.sync(options=EVERYTHING, page_size=20)
    assert_everything_is_there(gateway, sandbox)


async def test_token_that_can_not_be_renewed(gateway: Any, sandbox: Sandbox) -> None:
    """Credentials that were accepted and are refused later in the same run end it as AUTH_EXPIRED."""
    gateway.point_at(sandbox.url, auth="oauth2", client_id=sandbox.client_id, token_url=sandbox.token_url)
    sandbox.faults.replace(faults.TokenExpiry(requests=3), faults.Unauthorized(path="/oauth/token", after=1))

    outcome = await gateway.run(options=EVERYTHING, page_size=20)
    assert outcome.failure.code == Code.AUTH_EXPIRED


@pytest.mark.parametrize("auth", ["oauth1", "oauth2"])
async def test_wrong_secret(gateway: Any, sandbox: Sandbox, auth: str) -> None:
    """A wrong secret fails within seconds, without one try more than needed to be sure."""
    gateway.point_at(sandbox.url, auth=auth, client_id=sandbox.client_id, token_url=sandbox.token_url)
    gateway.secrets = {"client_secret": "wrong"}
    began = time.monotonic()
    outcome = await gateway.run()

    assert outcome.failure.code == Code.AUTH_INVALID
    assert time.monotonic() - began < 3
    assert sum(sandbox.requests.values()) <= 8


async def test_short_list_removes_nobody(gateway: Any, sandbox: Sandbox) -> None:
    """A list that ends early removes nobody, for each missing record is asked for and still found."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(faults.ShortList(path="/users", rows=10))
    outcome = await gateway.sync(options=EVERYTHING)

    assert_everything_is_there(gateway, sandbox)
    assert outcome.reports["users"].removed == 0


async def test_more_missing_than_is_asked_for(gateway: Any, sandbox: Sandbox) -> None:
    """When too many are missing to ask for each, all stay and are counted as unconfirmed."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(faults.ShortList(path="/enrollments", rows=10))
    outcome = await gateway.sync(options=EVERYTHING, confirm_at_most=20)

    assert_everything_is_there(gateway, sandbox)
    assert outcome.reports["enrollments"].unconfirmed == len(sandbox.district.active("enrollments")) - 10


async def test_singles_that_are_never_found(gateway: Any, sandbox: Sandbox) -> None:
    """A provider that finds no record by its id proves nothing by not finding the missing ones."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(faults.ShortList(path="/users", rows=10), faults.NotFoundSingles(path="/users"))
    outcome = await gateway.sync(options=EVERYTHING)

    assert_everything_is_there(gateway, sandbox)
    assert outcome.reports["users"].unconfirmed > 0


@pytest.mark.parametrize("change", ["delete", "insert"])
async def test_pages_that_shift(gateway: Any, sandbox: Sandbox, change: Literal["delete", "insert"]) -> None:
    """Records that slip between two pages while somebody edits are not taken for gone, and the shift is told."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(faults.Shift(path="/enrollments", change=change))
    outcome = await gateway.sync(options=EVERYTHING, page_size=50)
    told = [issue.collection for issue in outcome.completed.issues if issue.code is Code.PAGE_SHIFT_DETECTED]
    assert told == ["enrollments"]
    held = gateway.store.ids("enrollments")
    assert set(sandbox.district.active("enrollments")) - held <= {
        one for one in sandbox.district.active("enrollments") if one.startswith("!")
    }

    sandbox.faults.replace()
    await gateway.sync(options=EVERYTHING)
    assert_everything_is_there(gateway, sandbox)


async def test_bad_records(gateway: Any, sandbox: Sandbox) -> None:
    """Records that can't be understood are quarantined with a reason and keep their last value; nobody is removed."""
    await gateway.sync(options=EVERYTHING)
    before = dict(gateway.store.records["users"])
    sandbox.faults.replace(faults.BadRecords(path="/users", rows=8))
    outcome = await gateway.sync(options=EVERYTHING)

    assert outcome.reports["users"].quarantined == 8
    assert {issue.code for issue in outcome.completed.issues} == {
        Code.RECORD_NO_ID, Code.BAD_ENUM, Code.FIELD_MISSING, Code.RECORD_INVALID,
    }  # fmt: skip
    assert gateway.store.records["users"] == before


async def test_empty_collection(gateway: Any, sandbox: Sandbox) -> None:
    """A collection that arrives empty with a count of none is reported as it is, for the store's guard to judge."""
    await gateway.sync(options=EVERYTHING)
    sandbox.faults.replace(faults.Empty(path="/users"))
    outcome = await gateway.run(options=EVERYTHING)

    report = outcome.reports["users"]
    assert (report.served, report.stated, report.consistent) == (0, 0, True)
    assert report.removed == len(gateway.store.ids("users"))


async def test_options(gateway: Any, sandbox: Sandbox) -> None:
    """Switching parents and demographics off removes them by configuration, and nobody else."""
    await gateway.sync(options=EVERYTHING)
    users = sandbox.district.active("users")
    parents = {one for one, user in users.items() if user["role"] in {"parent", "guardian", "relative"}}
    assert parents
    outcome = await gateway.sync()

    assert gateway.store.ids("users") == set(users) - parents
    assert gateway.store.ids("demographics") == set()
    assert {chunk.removal_reason for chunk in outcome.chunks if chunk.removed_keys} == {"configuration"}
    assert (await gateway.sync()).chunks == []


async def test_sync_classes_off(gateway: Any, sandbox: Sandbox) -> None:
    """Without class data neither courses, classes nor enrollments are asked for."""
    await gateway.sync(options={"sync_classes": False})

    assert gateway.store.ids("users")
    assert not any(path.endswith(("/courses", "/classes", "/enrollments")) for path in sandbox.requests)


async def test_answers_are_kept_where_asked_for(gateway: Any, sandbox: Sandbox, tmp_path: Path) -> None:
    """With `keep_received` every page of a run is kept to be downloaded, of a failed one too; without it none is."""
    gateway.uploads = uploads = StoredUploads(FolderStore(tmp_path))
    await gateway.sync(options=EVERYTHING)
    assert await uploads.received.integrations() == []

    good = gateway.job(keep_received=True, run_id=str(new_id()))
    outcome = await gateway.sync(job=good)
    sandbox.faults.replace(faults.HtmlLogin(path="/enrollments"))
    bad = gateway.job(keep_received=True, run_id=str(new_id()))
    assert (await gateway.run(job=bad)).failure is not None

    assert await uploads.received.ids(gateway.integration_id) == [bad.run_id, good.run_id]
    with zipfile.ZipFile(await uploads.received.fetch(gateway.integration_id, good.run_id, tmp_path)) as archive:
        bodies = [archive.read(name) for name in archive.namelist() if "-users" in name]
    served = {user["sourcedId"] for body in bodies for user in msgspec.json.decode(body)["users"]}
    assert len(served) == outcome.reports["users"].served > 0
