"""Approvals and discards over REST: taken once, for exactly the plan that is held, done by the store (C14)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import (
    ROSTER_COMMANDS,
    Applied,
    Bookmark,
    CollectionReport,
    Decide,
    DecisionRefused,
    Failed,
    Held,
    HoldEnded,
    HoldReason,
    read_command,
    read_job,
)
from homeroom.roster import CANONICAL_VERSION
from homeroom.testing.tokens import TestIssuer
from sync_scheduler.ticking import Ticking

Hear = Callable[..., Awaitable[None]]
Read = Callable[[str], Awaitable[list[Message]]]

PLAN = "ab12" * 16
BOOKMARK = Bookmark(at=datetime(2026, 9, 1, 6, 30, tzinfo=UTC), canonical=CANONICAL_VERSION, increments=True)
REPORT = {"users": CollectionReport(served=90, added=2, unchanged=88, held=40)}


class Holding:
    """A run of which something waits, and what its store and people say of it."""

    def __init__(
        self, client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
    ) -> None:
        self.client, self.ticking, self.hear, self.read = client, ticking, hear, read
        self.integration = integration
        self.run_id = ""

    async def begin(self) -> str:
        """Ask for a sync and send it."""
        answer = await self.client.post(f"/v1/integrations/{self.integration['id']}/runs")
        self.run_id = answer.raise_for_status().json()["run_id"]
        await self.ticking.send_due()
        return self.run_id

    async def hold(self, *, plan: str = PLAN, everything: bool = False, **more: Any) -> None:
        """Let the store hold what was fetched."""
        fact: dict[str, Any] = {
            "fetch_id": "f",
            "code": Code.GUARD_DELETE_HOLD,
            "detail": "40 of 130 users would go.",
            "collections": REPORT,
            "plan": plan,
            "expires_at": datetime.now(UTC) + timedelta(days=7),
            "everything": everything,
            "reasons": (
                HoldReason(
                    code=Code.GUARD_DELETE_HOLD,
                    sentence="40 of 130 users would go.",
                    collection="users",
                    school="s\0 1",
                    count=40,
                    of=130,
                ),
            ),
            "apply": None if everything else 3,
        }
        await self.hear(Held(**(self.said() | fact | more)))

    async def apply(self, bookmark: Bookmark | None = BOOKMARK) -> None:
        """Let the store have applied what was held."""
        reports = {"users": CollectionReport(removed=40)}
        await self.hear(Applied(fetch_id="f", apply=4, collections=reports, bookmark=bookmark, **self.said()))

    async def end(self, code: Code, plan: str = PLAN) -> None:
        """Let the store have thrown it away."""
        await self.hear(HoldEnded(plan=plan, code=code, **self.said()))

    async def approve(self, plan: str = PLAN, **body: Any) -> httpx2.Response:
        """Approve it."""
        return await self.client.post(f"/v1/runs/{self.run_id}/approve", json={"plan": plan, **body})

    async def discard(self, plan: str = PLAN) -> httpx2.Response:
        """Discard it."""
        return await self.client.post(f"/v1/runs/{self.run_id}/discard", json={"plan": plan})

    async def show(self) -> dict[str, Any]:
        """The run."""
        found: dict[str, Any] = (await self.client.get(f"/v1/runs/{self.run_id}")).raise_for_status().json()
        return found

    async def log(self) -> list[dict[str, Any]]:
        """The run's story."""
        found: list[dict[str, Any]] = (await self.client.get(f"/v1/runs/{self.run_id}/log")).json()["entries"]
        return found

    async def commands(self) -> list[Decide]:
        """The decisions that were sent to the store."""
        await self.ticking.send_due()
        sent = [read_command(message) for message in await self.read(ROSTER_COMMANDS.name)]
        return [one for one in sent if isinstance(one, Decide)]

    def said(self) -> dict[str, Any]:
        """What all facts of the run have in common."""
        return {
            "run_id": self.run_id,
            "attempt": 1,
            "integration_id": self.integration["id"],
            "at": datetime.now(UTC),
        }


@pytest.fixture
async def holding(
    client: httpx2.AsyncClient, ticking: Ticking, hear: Hear, read: Read, integration: dict[str, Any]
) -> Holding:
    """A run whose removals are held."""
    found = Holding(client, ticking, hear, read, integration)
    await found.begin()
    await found.hold()
    return found


def _codes(answers: Sequence[httpx2.Response]) -> list[tuple[int, str | None]]:
    return [(answer.status_code, answer.json().get("code")) for answer in answers]


async def test_what_is_held(holding: Holding) -> None:
    """A held run shows what waits, why, until when and under which hash, and where to look closer."""
    run = await holding.show()
    hold = run["hold"]

    assert (run["state"], run["code"], run["plan"], run["counts"]["users"]["held"]) == (
        "held",
        "GUARD_DELETE_HOLD",
        PLAN,
        40,
    )
    assert (hold["plan"], hold["everything"], hold["sentence"]) == (PLAN, False, "40 of 130 users would go.")
    assert hold["held"] == {"users": {"added": 0, "changed": 0, "removed": 40}}
    assert hold["reasons"] == [
        {
            "code": "GUARD_DELETE_HOLD",
            "title": "An unusual number of records would be removed",
            "sentence": "40 of 130 users would go.",
            "collection": "users",
            "school": "s\ufffd 1",
            "count": 40,
            "of": 130,
        }
    ]
    assert hold["decision"] is None
    assert datetime.fromisoformat(hold["expires_at"]) > datetime.now(UTC)
    assert run["links"]["plan"] == f"/v1/plans/{holding.run_id}"
    assert run["links"]["changes"] == f"/v1/plans/{holding.run_id}/changes.csv"
    assert [entry["step"] for entry in await holding.log()] == ["asked", "published", "held"]


async def test_from_approval_to_end(holding: Holding, database: Database) -> None:
    """An approval goes to the store, ends the run once it was carried out, and hands its bookmark over."""
    before = await database.fetchrow("SELECT bookmark, bookmark_gone FROM integration")
    answer = await holding.approve()
    (command,) = await holding.commands()
    await holding.apply()
    run = await holding.show()

    assert before is not None
    assert tuple(before) == (None, "hold")
    assert (answer.status_code, answer.json()["state"], answer.json()["hold"]["decision"]["action"]) == (
        202,
        "applying",
        "approve",
    )
    assert (command.run_id, command.attempt, command.plan, command.action) == (holding.run_id, 1, PLAN, "approve")
    assert (run["state"], run["hold"], run["plan"]) == ("succeeded", None, PLAN)
    assert [entry["step"] for entry in await holding.log()][-2:] == ["decided", "applied"]
    assert (await database.fetchval("SELECT bookmark FROM integration"))["increments"] is True
    assert len(await holding.commands()) == 1


async def test_additions_only(holding: Holding) -> None:
    """Additions alone can be approved; the store is told just that."""
    await holding.approve(action="additions")

    assert [command.action for command in await holding.commands()] == ["additions"]


async def test_from_discard_to_end(holding: Holding) -> None:
    """What was discarded ends the run as partial, for a part of it was applied before; another run need not wait."""
    answer = await holding.discard()
    (command,) = await holding.commands()
    other = await holding.client.post(f"/v1/integrations/{holding.integration['id']}/runs")
    await holding.end(Code.HOLD_DISCARDED)
    run = await holding.show()

    assert (answer.status_code, answer.json()["state"], other.status_code) == (202, "held", 202)
    assert command.action == "discard"
    assert (run["state"], run["code"]) == ("partial", "HOLD_DISCARDED")
    assert len(await holding.commands()) == 1


async def test_only_that_plan(holding: Holding) -> None:
    """Another hash is refused and decides nothing; so is what no hash can be."""
    answers = [await holding.approve("cd34" * 16), await holding.discard("cd34" * 16), await holding.approve("a b")]

    assert _codes(answers) == [(409, "PLAN_CHANGED"), (409, "PLAN_CHANGED"), (422, "REQUEST_INVALID")]
    assert await holding.commands() == []


async def test_single_use(holding: Holding) -> None:
    """A plan is decided once: later decisions are refused, also after the end; the same one again changes nothing."""
    first = [await holding.approve(), await holding.approve(), await holding.discard()]
    await holding.commands()
    await holding.apply()
    later = [await holding.approve(), await holding.approve(action="additions"), await holding.discard()]

    assert _codes(first) == [(202, None), (202, None), (409, "HOLD_DECIDED")]
    assert _codes(later) == [(202, None), (409, "HOLD_DECIDED"), (409, "HOLD_DECIDED")]
    assert len(await holding.commands()) == 1
    assert (await holding.show())["state"] == "succeeded"


async def test_another_persons_repeat(holding: Holding, client: httpx2.AsyncClient, issuer: TestIssuer) -> None:
    """Who comes second is told so, also with the same decision."""
    await holding.approve()
    token = issuer.token(["runs.approve"], subject="somebody-else")
    answer = await client.post(
        f"/v1/runs/{holding.run_id}/approve", json={"plan": PLAN}, headers={"Authorization": f"Bearer {token}"}
    )

    assert _codes([answer]) == [(409, "HOLD_DECIDED")]


async def test_fifty_at_once(holding: Holding, database: Database) -> None:
    """Of fifty approvals and discards at once exactly one decides, and exactly one command goes out."""
    ways: list[Callable[[], Awaitable[httpx2.Response]]] = [
        holding.approve,
        lambda: holding.approve(action="additions"),
        holding.discard,
    ]
    answers = await asyncio.gather(*(ways[number % 3]() for number in range(50)))
    (action,) = [row["action"] for row in await database.fetch("SELECT action FROM decision")]
    (command,) = await holding.commands()
    accepted = {number % 3 for number, answer in enumerate(answers) if answer.status_code == 202}

    assert command.action == action
    assert accepted == {["approve", "additions", "discard"].index(action)}
    assert {answer.json()["code"] for answer in answers if answer.status_code != 202} == {"HOLD_DECIDED"}
    assert await database.fetchval("SELECT count(*) FROM audit_entry WHERE subject = $1", f"run:{holding.run_id}") == 1


async def test_past_all_code(holding: Holding, database: Database) -> None:
    """The database itself refuses a second decision about a plan."""
    from asyncpg import UniqueViolationError

    await holding.approve()
    with pytest.raises(UniqueViolationError):
        await database.fetch(
            "INSERT INTO decision (id, run, attempt, plan, action, by)"
            " SELECT gen_random_uuid(), run, attempt, plan, 'discard', by FROM decision"
        )


async def test_who_may(holding: Holding, client: httpx2.AsyncClient, issuer: TestIssuer, unknown_id: str) -> None:
    """Deciding takes its own scope and the run's organization; to others the run does not exist."""

    async def ask(token: str, path: str = "approve") -> httpx2.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return await client.post(f"/v1/runs/{holding.run_id}/{path}", json={"plan": PLAN}, headers=headers)

    answers = [
        await ask(issuer.token(["integrations.read", "integrations.write", "runs.write"])),
        await ask(issuer.token(["runs.approve"], organization_id=unknown_id)),
        await ask(issuer.token(["runs.approve"], organization_id=unknown_id), "discard"),
        await client.post(f"/v1/runs/{unknown_id}/approve", json={"plan": PLAN}),
    ]

    assert _codes(answers) == [(403, "SCOPE_MISSING"), (404, "NOT_FOUND"), (404, "NOT_FOUND"), (404, "NOT_FOUND")]
    assert (await holding.show())["hold"]["decision"] is None
    assert (
        await ask(issuer.token(["runs.approve"], organization_id=holding.integration["organization_id"]))
    ).is_success


async def test_runs_that_hold_nothing(holding: Holding, hear: Hear) -> None:
    """There is nothing to decide about a run that is under way, has failed, or whose hold was replaced."""
    await holding.end(Code.HOLD_REPLACED)
    replaced = await holding.approve()
    await holding.begin()
    active = await holding.approve()
    await hear(Failed(code=Code.AUTH_INVALID, detail="It answered 401.", **holding.said()))
    failed = await holding.discard()

    assert _codes([replaced, active, failed]) == [(409, "NOTHING_HELD")] * 3


async def test_not_beside_another_run(holding: Holding) -> None:
    """While another run is under way an approval waits for its turn; the two never come between each other."""
    held = holding.run_id
    other = await holding.begin()
    holding.run_id = held
    refused = await holding.approve()
    await holding.client.post(f"/v1/runs/{other}/cancel")

    assert (refused.status_code, refused.json()["code"], refused.json()["run_id"]) == (409, "SYNC_IN_PROGRESS", other)
    answer = await holding.approve()
    again = await holding.client.post(f"/v1/integrations/{holding.integration['id']}/runs")
    assert (answer.status_code, again.json()["code"], again.json()["run_id"]) == (202, "SYNC_IN_PROGRESS", held)


async def test_the_store_refuses(holding: Holding) -> None:
    """A decision the store can't carry out is told; then the plan can be decided anew."""
    await holding.approve()
    (command,) = await holding.commands()
    refusal = DecisionRefused(
        decision_id=command.decision_id,
        plan=PLAN,
        code=Code.PLAN_CHANGED,
        detail="The roster changed.",
        **holding.said(),
    )
    await holding.hear(refusal)
    run, log = await holding.show(), await holding.log()
    again = await holding.discard()
    await holding.hear(refusal)

    assert (run["state"], run["code"]) == ("held", "GUARD_DELETE_HOLD")
    assert (log[-1]["code"], log[-1]["sentence"]) == (
        "PLAN_CHANGED",
        "The decision could not be carried out: The roster changed.",
    )
    assert again.status_code == 202
    assert [one.action for one in await holding.commands()] == ["approve", "discard"]
    assert (await holding.show())["hold"]["decision"]["action"] == "discard"


async def test_cancelled_while_it_was_decided(holding: Holding) -> None:
    """An approval that was cancelled and then refused is not asked about again: what waits is thrown away."""
    await holding.approve()
    (command,) = await holding.commands()
    await holding.client.post(f"/v1/runs/{holding.run_id}/cancel")
    refusal = DecisionRefused(
        decision_id=command.decision_id, plan=PLAN, code=Code.PLAN_CHANGED, detail="It changed.", **holding.said()
    )
    await holding.hear(refusal)

    assert (await holding.show())["code"] == "RUN_CANCELLED"
    assert [(one.action, one.by) for one in await holding.commands()][1:] == [("discard", "scheduler")]


async def test_sent_until_it_is_answered(holding: Holding, database: Database) -> None:
    """A decision nobody answers is sent again, ever more seldom, until the store says what came of it."""
    await holding.approve()
    sent = []
    for _ in range(3):
        sent.append(len(await holding.commands()))
        await database.fetch("UPDATE decision SET publish_at = now()")
    waits = await database.fetchval("SELECT published FROM decision")
    await holding.apply()
    await database.fetch("UPDATE decision SET publish_at = now() WHERE answered_at IS NULL")

    assert (sent, waits) == ([1, 2, 3], 3)
    assert len(await holding.commands()) == 3


async def test_a_store_that_is_gone(holding: Holding, database: Database) -> None:
    """An approval that was not carried out in time lapses: the run is held again and can be decided again."""
    await holding.approve()
    await database.fetch("UPDATE run SET deadline_at = now() - interval '1 second'")
    await holding.ticking.look_after()
    run = await holding.show()
    again = await holding.approve()

    assert (run["state"], run["hold"]["decision"]) == ("held", None)
    assert again.status_code == 202
    assert await database.fetch("SELECT code FROM decision WHERE code IS NOT NULL") != []


async def test_expiry(holding: Holding, database: Database) -> None:
    """What nobody decided in time can't be approved, is thrown away by the store, and ends the run."""
    await database.fetch(
        "UPDATE run SET hold_expires_at = now(), hold = jsonb_set(hold, '{expires_at}', to_jsonb(now()))"
    )
    late = await holding.approve()
    await holding.ticking.look_after()
    await holding.ticking.look_after()
    (command,) = await holding.commands()
    decided = await holding.approve()
    await holding.end(Code.HOLD_EXPIRED)
    run = await holding.show()

    assert _codes([late, decided]) == [(409, "NOTHING_HELD"), (409, "HOLD_DECIDED")]
    assert (command.action, command.by) == ("expire", "scheduler")
    assert (run["state"], run["code"]) == ("partial", "HOLD_EXPIRED")


async def test_expiry_without_a_store(holding: Holding, database: Database) -> None:
    """A run whose hold expired ends even if the store never says a word."""
    await holding.discard()
    await database.fetch("UPDATE run SET deadline_at = now() - interval '1 second'")
    await holding.ticking.look_after()

    assert (await holding.show())["code"] == "HOLD_DISCARDED"


@pytest.mark.parametrize("everything", [True, False])
async def test_what_a_hold_leaves(holding: Holding, database: Database, *, everything: bool) -> None:
    """While something waits the next sync reads everything; only where a part was applied the district was synced."""
    await holding.end(Code.HOLD_DISCARDED)
    await database.fetch("UPDATE integration SET last_success_at = NULL, bookmark = $1, bookmark_gone = NULL", BOOKMARK)
    await holding.begin()
    await holding.hold(plan="ef56" * 16, everything=everything)
    succeeded = await database.fetchval("SELECT last_success_at FROM integration")
    await holding.begin()
    asked = (await holding.log())[0]["sentence"]
    job = read_job((await holding.read("sync-jobs.us"))[-1])
    await holding.apply()
    await holding.begin()
    following = read_job((await holding.read("sync-jobs.us"))[-1])

    assert (succeeded is None) == everything
    assert (job.mode, job.bookmark) == ("full", None)
    assert "something of the last sync was held" in asked
    assert following.mode == "delta"


async def test_teachers_go_on(holding: Holding, database: Database) -> None:
    """What is held keeps no teacher from refreshing a class: that builds on the last settled sync."""
    await holding.end(Code.HOLD_DISCARDED)
    await database.fetch("UPDATE integration SET bookmark = $1, bookmark_gone = NULL", BOOKMARK)
    await holding.begin()
    await holding.hold(plan="ef56" * 16)
    body = {"integration_id": holding.integration["id"], "wait_seconds": 0}
    answer = await holding.client.post("/v1/classes/c1/refresh", json=body)
    await holding.ticking.send_due()
    job = read_job((await holding.read("sync-jobs.us"))[-1])

    assert answer.status_code == 202
    assert (job.terms.purpose, job.bookmark) == ("refresh", BOOKMARK)


async def test_approvals_beside_starts(holding: Holding, database: Database) -> None:
    """Of approvals and new runs at the same moment one gets through, and the integration has one active run."""
    path = f"/v1/integrations/{holding.integration['id']}/runs"
    answers = await asyncio.gather(
        *(holding.approve() if number % 2 else holding.client.post(path) for number in range(20))
    )
    approved = {answer.status_code for answer in answers[1::2]}
    started = sorted(answer.status_code for answer in answers[::2])

    assert await database.fetchval("SELECT count(*) FROM run WHERE state IN ('queued', 'fetching', 'applying')") == 1
    assert (approved, started) in [({202}, [409] * 10), ({409}, [202] + [409] * 9)]


async def test_late_approvals_do_not_go_back(holding: Holding, database: Database) -> None:
    """What is heard of an older run after a newer sync was applied leaves the newer one's bookmark."""
    older = holding.run_id
    await holding.begin()
    newer = Bookmark(at=BOOKMARK.at + timedelta(days=1), canonical=CANONICAL_VERSION, increments=True)
    await holding.apply(newer)
    holding.run_id = older
    await holding.apply(BOOKMARK)

    assert (await holding.show())["state"] == "succeeded"
    assert (await database.fetchval("SELECT bookmark FROM integration"))["at"].startswith("2026-09-02")


async def test_deleted(holding: Holding) -> None:
    """With an integration goes what it holds: nothing of a deleted one is ever applied (C8)."""
    await holding.client.delete(f"/v1/integrations/{holding.integration['id']}")
    answer = await holding.approve()

    assert _codes([answer]) == [(409, "INTEGRATION_DELETED")]
    assert [command.action for command in await holding.commands()] == ["discard"]


async def test_held_after_a_deadline(holding: Holding, database: Database) -> None:
    """A plan that is held after its run has failed is thrown away; the run stays failed."""
    await holding.end(Code.HOLD_DISCARDED)
    await holding.begin()
    await database.fetch("UPDATE run SET deadline_at = now() - interval '1 second' WHERE state = 'queued'")
    await holding.ticking.look_after()
    await holding.hold(plan="ef56" * 16)
    await holding.hold(plan="ef56" * 16)
    (command,) = await holding.commands()

    assert (await holding.show())["state"] == "failed"
    assert (command.action, command.plan, command.by) == ("discard", "ef56" * 16, "scheduler")


async def test_audit(holding: Holding, client: httpx2.AsyncClient) -> None:
    """Who approved what, and when, can be looked up (C14)."""
    await holding.approve(action="additions")
    entries = (await client.get("/v1/audit", params={"subject": f"run:{holding.run_id}"})).json()["items"]

    (entry,) = entries
    assert (entry["action"], entry["subject"]) == ("run.approve", f"run:{holding.run_id}")
    assert entry["organization_id"] == holding.integration["organization_id"]
    assert (entry["detail"]["plan"], entry["detail"]["action"]) == (PLAN, "additions")
    assert entry["by"]
