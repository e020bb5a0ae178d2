"""The audit: who did what, in the order it was done, for ever."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import httpx2
import pytest

from homeroom.db import Database
from homeroom.testing.tokens import TestIssuer
from sync_scheduler import audit


async def _note(database: Database, number: int, organization: UUID | None) -> None:
    await database.transact(
        lambda connection: audit.note(
            connection,
            by="ada",
            action="thing.do",
            organization=organization,
            subject=f"thing:{number}",
            detail={"number": number},
        )
    )


async def test_pages(client: httpx2.AsyncClient, database: Database, organization_id: str) -> None:
    """What was done is listed newest first, in pages, all of it or what was done to one thing."""
    for number in range(3):
        await _note(database, number, UUID(organization_id))
    first = (await client.get("/v1/audit", params={"limit": 2})).json()
    second = (await client.get("/v1/audit", params={"limit": 500, "cursor": first["cursor"]})).json()
    one = (await client.get("/v1/audit", params={"subject": "thing:1"})).json()["items"]

    listed = [entry["subject"] for entry in first["items"] + second["items"]]
    assert [subject for subject in listed if subject.startswith("thing:")] == ["thing:2", "thing:1", "thing:0"]
    assert [(entry["by"], entry["action"], entry["detail"], entry["organization_id"]) for entry in one] == [
        ("ada", "thing.do", {"number": 1}, organization_id)
    ]


async def test_only_what_is_yours(
    client: httpx2.AsyncClient, database: Database, issuer: TestIssuer, organization_id: str, unknown_id: str
) -> None:
    """A caller bound to an organization sees what was done there, and nothing else."""
    await _note(database, 1, UUID(organization_id))
    await _note(database, 2, None)
    own = issuer.headers(["integrations.read"], organization_id=organization_id)
    foreign = issuer.headers(["integrations.read"], organization_id=unknown_id)

    async def ask(headers: dict[str, str], **query: Any) -> httpx2.Response:
        return await client.get("/v1/audit", params={"subject": "thing:1", **query}, headers=headers)

    assert len((await ask(own)).json()["items"]) == 1
    assert (await client.get("/v1/audit", params={"subject": "thing:2"}, headers=own)).json()["items"] == []
    assert (await ask(foreign)).json()["items"] == []
    assert (await ask(foreign, organization_id=organization_id)).json()["code"] == "NOT_FOUND"
    assert (await ask(issuer.headers(["runs.approve"]))).json()["code"] == "SCOPE_MISSING"


async def test_odd_questions(client: httpx2.AsyncClient) -> None:
    """Cursors and subjects that can't be ours are refused with a sentence."""
    answers = [
        await client.get("/v1/audit", params={"cursor": "x"}),
        await client.get("/v1/audit", params={"subject": "a\0b"}),
        await client.get("/v1/audit", params={"organization_id": "x"}),
    ]

    assert [answer.json()["code"] for answer in answers] == ["CURSOR_INVALID", "REQUEST_INVALID", "REQUEST_INVALID"]


@pytest.mark.parametrize("statement", ["UPDATE audit_entry SET by = 'eve'", "DELETE FROM audit_entry"])
async def test_nothing_is_changed(database: Database, statement: str) -> None:
    """The database itself refuses to change or take back what was written."""
    await _note(database, 1, None)
    with pytest.raises(asyncpg.RaiseError, match="only ever added to"):
        await database.fetch(statement)

    assert await database.fetchval("SELECT count(*) FROM audit_entry") == 1


async def test_resets_are_audited_and_told(
    client: httpx2.AsyncClient, integration: dict[str, Any], run_id: str
) -> None:
    """A reset waits for a run to end, says what happens next, and is written down (C6)."""
    path = f"/v1/integrations/{integration['id']}"
    busy = await client.post(f"{path}/reset", json={"confirm": True})
    await client.post(f"/v1/runs/{run_id}/cancel")
    done = await client.post(f"{path}/reset", json={"confirm": True})
    await asyncio.sleep(0)
    entries = (await client.get("/v1/audit", params={"subject": f"integration:{integration['id']}"})).json()["items"]

    assert (busy.status_code, busy.json()["code"]) == (409, "SYNC_IN_PROGRESS")
    assert "stays readable as it is" in done.json()["next_step"]
    assert "integration.reset" in [entry["action"] for entry in entries]
