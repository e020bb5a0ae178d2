"""Facts move runs on, once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx2
import msgspec
import pytest

from homeroom.bus import Message, Reject, Retry
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    Answered,
    Applied,
    Claimed,
    CollectionReport,
    Fact,
    Failed,
    Fetched,
    Held,
    Progress,
    RecordIssue,
    SyncFact,
    UploadReceived,
    to_facts,
)
from sync_scheduler.facts import Facts
from sync_scheduler.ticking import Ticking

REPORTS = {
    "users": CollectionReport(served=10, added=4, changed=1, unchanged=4, quarantined=1, removed=2),
    "classes": CollectionReport(served=3, unchanged=3),
}
ISSUE = RecordIssue(collection="users", sourced_id="u\0 1", code=Code.FIELD_MISSING, field="givenName")


def _wrap(facts: Sequence[SyncFact]) -> list[Message]:
    now = datetime.now(UTC)
    outgoing = [to_facts(fact) for fact in facts]
    return [Message(out.topic, 0, offset, out.key, out.value, {}, now) for offset, out in enumerate(outgoing)]


def _story(run_id: str, integration_id: str) -> list[Fact]:
    """Everything that is reported of a run that goes well."""
    common: dict[str, Any] = {
        "run_id": run_id,
        "attempt": 1,
        "integration_id": integration_id,
        "at": datetime.now(UTC),
        "fetch_id": "a",
    }
    return [
        Claimed(worker="w", **common),
        Progress(served={"users": 5}, pages=1, **common),
        Progress(served={"users": 10, "classes": 3}, pages=2, **common),
        Fetched(collections=REPORTS, issues=(ISSUE,), **common),
        Applied(apply=1, collections=REPORTS, issues=(ISSUE,), students=8, teachers=2, classes=3, **common),
    ]


async def _look(client: httpx2.AsyncClient, run_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    run = (await client.get(f"/v1/runs/{run_id}")).json()
    return run, (await client.get(f"/v1/runs/{run_id}/log")).json()


async def test_the_usual_way(
    client: httpx2.AsyncClient, facts: Facts, ticking: Ticking, integration: dict[str, Any], run_id: str
) -> None:
    """What is reported of a run is what the API shows of it, with counts, words and issues (C5)."""
    await ticking.send_due()
    story = _story(run_id, integration["id"])
    states = []
    for fact in story:
        await facts.handle(_wrap([fact]))
        run, log = await _look(client, run_id)
        states.append(run["state"])

    assert states == ["fetching", "fetching", "fetching", "applying", "partial"]
    assert (run["code"], run["message"]) == ("RECORDS_QUARANTINED", "Some records could not be understood")
    assert run["next_step"].startswith("Correct the listed records")
    assert run["counts"]["users"] == {
        "served": 10,
        "added": 4,
        "changed": 1,
        "unchanged": 4,
        "removed": 2,
        "filtered": 0,
        "quarantined": 1,
        "held": 0,
        "unconfirmed": 0,
    }
    assert [run[name] for name in ("matched_students", "matched_teachers", "imported_classes", "unmatched_users")] == [
        8,
        2,
        3,
        0,
    ]
    known = {"served": {"users": 10, "classes": 3}, "pages": 2, "reading": [], "percent": 100.0, "estimated_end": None}
    assert run["progress"] | known == run["progress"]
    assert run["started_at"] <= run["finished_at"]
    assert [entry["step"] for entry in log["entries"]] == ["asked", "published", "claimed", "fetched", "applied"]
    assert log["issues"] == [
        {
            "collection": "users",
            "sourced_id": "u\ufffd 1",
            "code": "FIELD_MISSING",
            "title": "A required field is missing",
            "next_step": "Fill the field in the SIS.",
            "field": "givenName",
            "detail": None,
        }
    ]


async def test_progress(client: httpx2.AsyncClient, facts: Facts, integration: dict[str, Any], run_id: str) -> None:
    """While a fetch goes on, a run shows what is being read, how much of it came, and when it may end (C10)."""
    claimed, _, progress, *_ = _story(run_id, integration["id"])
    await facts.handle(_wrap([claimed]))
    before = (await _look(client, run_id))[0]["progress"]
    come = msgspec.structs.replace(progress, stated={"users": 30, "classes": 10}, reading=("users",))
    await facts.handle(_wrap([come]))
    after = (await _look(client, run_id))[0]["progress"]

    assert before == {
        "served": {},
        "pages": 0,
        "reading": [],
        "rate": None,
        "stated": None,
        "percent": None,
        "estimated_end": None,
    }
    assert (after["reading"], after["stated"], after["percent"]) == (["users"], 40, 32.5)


async def test_incomplete_schools(
    client: httpx2.AsyncClient, facts: Facts, integration: dict[str, Any], run_id: str
) -> None:
    """Schools that stayed as they were are named with the reason, in the run and in its log (C4)."""
    issues = (
        RecordIssue(collection="orgs", sourced_id="s1", code=Code.SCHOOL_INCOMPLETE, detail="no classes\0"),
        RecordIssue(collection="orgs", sourced_id="s2", code=Code.GUARD_SCHOOL_MISSING),
        RecordIssue(collection="orgs", sourced_id="s3", code=Code.FIELD_TOO_LONG, field="name"),
    )
    story = [
        msgspec.structs.replace(fact, issues=issues) if isinstance(fact, Fetched | Applied) else fact
        for fact in _story(run_id, integration["id"])
    ]
    await facts.handle(_wrap(story))
    run, log = await _look(client, run_id)

    assert (run["state"], run["code"]) == ("partial", "GUARD_SCHOOL_MISSING")
    assert run["incomplete_schools"] == [
        {"sourced_id": "s1", "code": "SCHOOL_INCOMPLETE", "why": "no classes\ufffd"},
        {"sourced_id": "s2", "code": "GUARD_SCHOOL_MISSING", "why": "A school is missing"},
    ]
    assert log["issues"][0]["detail"] == "no classes\ufffd"


async def test_success_is_noted(
    client: httpx2.AsyncClient, facts: Facts, ticking: Ticking, integration: dict[str, Any], run_id: str
) -> None:
    """A run that was applied sets the last sync date and ends the need for a sync."""
    await ticking.send_due()
    await facts.handle(_wrap(_story(run_id, integration["id"])))
    synced = (await client.get(f"/v1/integrations/{integration['id']}")).json()

    assert synced["needs_sync"] is False
    assert synced["last_full_at"] <= synced["last_success_at"]


async def test_edited_meanwhile(
    client: httpx2.AsyncClient, facts: Facts, ticking: Ticking, integration: dict[str, Any], run_id: str
) -> None:
    """Settings edited while a run is under way still want their sync after it (C7)."""
    await ticking.send_due()
    path = f"/v1/integrations/{integration['id']}"
    await client.patch(path, json={"options": {"sync_parents": True}})
    await facts.handle(_wrap(_story(run_id, integration["id"])))

    assert (await client.get(path)).json()["needs_sync"] is True


@pytest.mark.parametrize("seed", range(5))
async def test_idempotence(
    client: httpx2.AsyncClient,
    database: Database,
    facts: Facts,
    ticking: Ticking,
    integration: dict[str, Any],
    run_id: str,
    seed: int,
) -> None:
    """Facts that come again, in other batches and in any order, leave run, log and integration as they were."""
    await ticking.send_due()
    story = _story(run_id, integration["id"])
    await facts.handle(_wrap(story))
    before = await _look(client, run_id), await database.fetch("SELECT * FROM integration")
    again = story * 3
    random.Random(seed).shuffle(again)
    while again:
        await facts.handle(_wrap(again[:4]))
        del again[:4]

    assert (await _look(client, run_id), await database.fetch("SELECT * FROM integration")) == before


async def test_failing(client: httpx2.AsyncClient, facts: Facts, integration: dict[str, Any], run_id: str) -> None:
    """A wrong secret fails the run with its code, the worker's sentence and what to do next."""
    detail = "The provider answered 401 for /orgs."
    fact = Failed(
        run_id=run_id,
        attempt=1,
        integration_id=integration["id"],
        at=datetime.now(UTC),
        code=Code.AUTH_INVALID,
        detail=detail,
    )
    await facts.handle(_wrap([fact]))
    run, log = await _look(client, run_id)

    assert (run["state"], run["code"], run["detail"]) == ("failed", "AUTH_INVALID", detail)
    assert run["next_step"].startswith("Ask the district")
    assert (log["entries"][-1]["code"], log["entries"][-1]["sentence"]) == ("AUTH_INVALID", detail)
    synced = (await client.get(f"/v1/integrations/{integration['id']}")).json()
    assert (synced["needs_sync"], synced["last_success_at"]) == (True, None)


async def test_held(client: httpx2.AsyncClient, facts: Facts, integration: dict[str, Any], run_id: str) -> None:
    """A held run shows the guard's code and words, and another run may begin."""
    fact = Held(
        run_id=run_id,
        attempt=1,
        integration_id=integration["id"],
        at=datetime.now(UTC),
        fetch_id="a",
        code=Code.GUARD_EMPTY_COLLECTION,
        detail="users arrived empty.",
        collections=REPORTS,
    )
    await facts.handle(_wrap([fact]))
    run, _ = await _look(client, run_id)

    assert (run["state"], run["code"], run["detail"]) == ("held", "GUARD_EMPTY_COLLECTION", "users arrived empty.")
    assert (await client.post(f"/v1/integrations/{integration['id']}/runs")).status_code == 202


async def test_unreadable(facts: Facts) -> None:
    """A message that is no fact is rejected by name, so that it goes to the dead letters."""
    message = Message("sync-facts", 0, 3, "i", b'{"type":"surprise"}', {}, datetime.now(UTC))
    with pytest.raises(Reject) as rejected:
        await facts.handle([message])

    assert (rejected.value.message, rejected.value.reason) == (message, "MESSAGE_UNREADABLE")


async def test_unknown_runs(facts: Facts, unknown_id: str) -> None:
    """Facts of runs nobody knows are passed over."""
    for run_id in (unknown_id, "no id of ours"):
        await facts.handle(_wrap(_story(run_id, "i")))


async def test_all_kinds_in_one_batch(
    client: httpx2.AsyncClient,
    database: Database,
    facts: Facts,
    integration: dict[str, Any],
    fed: dict[str, Any],
    run_id: str,
    unknown_id: str,
) -> None:
    """A batch may hold facts of runs, answers and uploads; those nobody knows do not keep the others back."""
    now = datetime.now(UTC)
    upload: dict[str, Any] = {"via": "sftp", "files": 1, "bytes": 1, "digest": "d", "at": now}
    batch: list[SyncFact] = [
        Answered(inquiry_id=unknown_id, integration_id=unknown_id, at=now),
        UploadReceived(upload_id="lost", integration_id=unknown_id, **upload),
        *_story(run_id, integration["id"]),
        UploadReceived(upload_id="u1", integration_id=fed["id"], **upload),
    ]
    await facts.handle(_wrap(batch))

    assert (await _look(client, run_id))[0]["state"] == "partial"
    assert [row["id"] for row in await database.fetch("SELECT id FROM upload")] == ["u1"]


async def test_half_a_batch(
    client: httpx2.AsyncClient,
    database: Database,
    facts: Facts,
    integration: dict[str, Any],
    fed: dict[str, Any],
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A batch is taken into account as a whole or not at all."""

    async def refuse(*_: object) -> None:
        raise asyncpg.CannotConnectNowError

    upload = UploadReceived(
        upload_id="u1", integration_id=fed["id"], via="sftp", files=1, bytes=1, digest="d", at=datetime.now(UTC)
    )
    batch = [*_story(run_id, integration["id"]), upload]
    with monkeypatch.context() as away:
        away.setattr("sync_scheduler.uploads.receive", refuse)
        with pytest.raises(Retry):
            await facts.handle(_wrap(batch))
    untouched = (await _look(client, run_id))[0]["state"]
    await facts.handle(_wrap(batch))

    assert untouched == "queued"
    assert (await _look(client, run_id))[0]["state"] == "partial"
    assert await database.fetchval("SELECT count(*) FROM upload") == 1


async def test_database_away(
    database: Database, facts: Facts, integration: dict[str, Any], run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a database the batch is asked for again and not lost."""

    async def refuse(*_: object, **__: object) -> None:
        raise asyncpg.CannotConnectNowError

    monkeypatch.setattr(database, "transact", refuse)
    with pytest.raises(Retry):
        await facts.handle(_wrap(_story(run_id, integration["id"])))
