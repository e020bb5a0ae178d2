"""Inquiries: questions to a worker without a run, and what callers get of their answers (C4, C11)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.bus import Message
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.messages import Answered, Finding, Inquiry, School, UploadReceived, inquiries_topic, read_inquiry
from homeroom.secrets import SealingKeys
from homeroom.testing.tokens import TestIssuer, calling
from sync_scheduler.app import make_app
from sync_scheduler.settings import ApiSettings
from sync_scheduler.ticking import Ticking

Read = Callable[[str], Awaitable[list[Message]]]
Hear = Callable[..., Awaitable[None]]
Questions = Callable[[], Awaitable[list[Inquiry]]]
Answering = Callable[..., AbstractAsyncContextManager[list[str]]]

TOPIC = inquiries_topic("us")
SCHOOLS = (School(sourced_id="s1", name="North High", identifier="N1"), School(sourced_id="s\0 2", name="South"))


def _answer(inquiry: Inquiry, **fields: Any) -> Answered:
    return Answered(
        inquiry_id=inquiry.inquiry_id, integration_id=inquiry.integration_id, at=datetime.now(UTC), **fields
    )


@pytest.fixture
def questions(read: Read) -> Questions:
    """All questions that were ever published."""

    async def list_all() -> list[Inquiry]:
        return [read_inquiry(message) for message in await read(TOPIC)]

    return list_all


@pytest.fixture
def answering(database: Database, ticking: Ticking, questions: Questions, hear: Hear) -> Answering:
    """Lets a worker answer each question once with the given fields; gives the ids of the questions."""

    @asynccontextmanager
    async def answering(**fields: Any) -> AsyncIterator[list[str]]:
        answered: list[str] = []

        async def work() -> None:
            while True:
                await ticking.send_due()
                if await database.fetchval("SELECT count(*) FROM inquiry WHERE answered_at IS NULL AND published > 0"):
                    for inquiry in await questions():
                        if inquiry.inquiry_id not in answered:
                            answered.append(inquiry.inquiry_id)
                            await hear(_answer(inquiry, **fields))
                await asyncio.sleep(0.02)

        working = asyncio.create_task(work())
        yield answered
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)

    return answering


@pytest.fixture
async def hasty(settings: ApiSettings, issuer: TestIssuer) -> AsyncIterator[httpx2.AsyncClient]:
    """The API, where nobody waits for answers."""
    app = make_app(settings.model_copy(update={"inquiry_wait_seconds": 0.0}), verifier=issuer.verifier)
    async with calling(app, issuer.token(["admin"])) as client:
        yield client


async def test_verify(client: httpx2.AsyncClient, answering: Answering, integration: dict[str, Any]) -> None:
    """A verification is put to a worker, and the request waits for its report (C11, C13)."""
    findings = (
        Finding(check="credentials", ok=True, detail="They are accepted."),
        Finding(check="users", ok=True, detail="There are users.", count=120),
        Finding(check="masked fields", ok=False, detail="email is masked.", code=Code.FIELD_MASKED),
    )
    async with answering(findings=findings):
        answer = await client.post(f"/v1/integrations/{integration['id']}/verify")
    report = answer.json()

    assert answer.status_code == 200
    assert (report["ok"], report["code"], report["detail"]) == (True, None, None)
    assert [(found["check"], found["ok"], found["count"]) for found in report["findings"]] == [
        ("credentials", True, None),
        ("users", True, 120),
        ("masked fields", False, None),
    ]
    assert report["findings"][2]["next_step"] == Code.FIELD_MASKED.entry.next_step
    assert report["checked_at"] is not None


async def test_verify_that_fails(client: httpx2.AsyncClient, answering: Answering, integration: dict[str, Any]) -> None:
    """A verification that found the connection wrong is a report with a code and what to do."""
    fields: dict[str, Any] = {"code": Code.AUTH_INVALID, "detail": "The provider answered 401."}
    async with answering(**fields):
        answer = await client.post(f"/v1/integrations/{integration['id']}/verify")
    report = answer.json()

    assert (answer.status_code, report["ok"], report["code"]) == (200, False, "AUTH_INVALID")
    assert (report["detail"], report["next_step"]) == (fields["detail"], Code.AUTH_INVALID.entry.next_step)


async def test_schools(
    client: httpx2.AsyncClient, database: Database, answering: Answering, integration: dict[str, Any]
) -> None:
    """The schools come as the provider names them, marked where excluded, and from memory for ten minutes (C4)."""
    path = f"/v1/integrations/{integration['id']}"
    async with answering(schools=SCHOOLS) as asked:
        first = await client.get(f"{path}/schools")
        again = await client.get(f"{path}/schools")
        assert len(asked) == 1
        refreshed = await client.get(f"{path}/schools", params={"refresh": "true"})
        assert len(asked) == 2
        await client.patch(path, json={"options": {"excluded_schools": ["s1"]}})
        edited = await client.get(f"{path}/schools")
        assert len(asked) == 3
        await database.fetch("UPDATE inquiry SET answered_at = now() - interval '11 minutes'")
        await client.get(f"{path}/schools")
        assert len(asked) == 4

    assert first.json()["schools"] == [
        {"sourced_id": "s1", "name": "North High", "identifier": "N1", "excluded": False},
        {"sourced_id": "s\ufffd 2", "name": "South", "identifier": None, "excluded": False},
    ]
    assert first.json() == again.json()
    assert refreshed.json()["as_of"] > first.json()["as_of"]
    assert [school["excluded"] for school in edited.json()["schools"]] == [True, False]


async def test_schools_that_can_not_be_had(
    client: httpx2.AsyncClient, answering: Answering, integration: dict[str, Any]
) -> None:
    """When the provider does not give its schools the caller gets its code, and the next one asks anew."""
    fields: dict[str, Any] = {"code": Code.PROV_5XX, "detail": "It answered 503."}
    path = f"/v1/integrations/{integration['id']}/schools"
    async with answering(**fields) as asked:
        answers = [await client.get(path) for _ in range(2)]

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(502, "PROV_5XX")] * 2
    assert answers[0].json()["detail"] == "It answered 503."
    assert len(asked) == 2


async def test_many_share_one_question(
    client: httpx2.AsyncClient, database: Database, answering: Answering, integration: dict[str, Any]
) -> None:
    """Twenty who ask at once put one question and get the same answer."""
    path = f"/v1/integrations/{integration['id']}/schools"
    async with answering(schools=SCHOOLS) as asked:
        answers = await asyncio.gather(*(client.get(path, params={"refresh": "true"}) for _ in range(20)))

    assert {answer.status_code for answer in answers} == {200}
    assert await database.fetchval("SELECT count(*) FROM inquiry") == len(asked)
    assert len(asked) < 5


async def test_what_a_worker_gets(
    hasty: httpx2.AsyncClient,
    ticking: Ticking,
    questions: Questions,
    read: Read,
    integration: dict[str, Any],
    sealing_keys: SealingKeys,
    canary: str,
) -> None:
    """A question carries all a worker needs, and the secrets only as it alone can open them."""
    await hasty.post(f"/v1/integrations/{integration['id']}/verify")
    await ticking.send_due()
    (inquiry,) = await questions()

    assert (inquiry.kind, inquiry.integration_id, inquiry.organization_id, inquiry.provider, inquiry.sis) == (
        "verify",
        integration["id"],
        integration["organization_id"],
        "oneroster",
        "PowerSchool",
    )
    assert inquiry.connection == integration["connection"]
    assert json.loads(sealing_keys.open(integration["id"], inquiry.sealed_secret)) == {"client_secret": canary}
    assert inquiry.upload is None
    assert 80 < (inquiry.deadline - datetime.now(UTC)).total_seconds() <= 90
    (message,) = await read(TOPIC)
    assert canary.encode() not in message.value


async def test_a_process_that_ends(settings: ApiSettings, issuer: TestIssuer, integration: dict[str, Any]) -> None:
    """A process that is asked to end tells those who wait where their answer will be, at once."""
    app = make_app(settings, verifier=issuer.verifier)
    async with calling(app, issuer.token(["admin"])) as client:
        waiting = asyncio.create_task(client.post(f"/v1/integrations/{integration['id']}/verify"))
        await asyncio.sleep(0.3)
        app.state.stop.set()
        answer = await asyncio.wait_for(waiting, 5)

    assert answer.status_code == 202


async def test_a_question_about_files(
    hasty: httpx2.AsyncClient, ticking: Ticking, questions: Questions, hear: Hear, fed: dict[str, Any]
) -> None:
    """Where files are uploaded the question is about the newest set."""
    for number in (1, 2):
        await hear(
            UploadReceived(
                upload_id=f"u{number}",
                integration_id=fed["id"],
                at=datetime.now(UTC),
                via="rest",
                files=7,
                bytes=7,
                digest="d",
            )
        )
    await hasty.get(f"/v1/integrations/{fed['id']}/schools")
    await ticking.send_due()
    (inquiry,) = await questions()

    assert inquiry.upload is not None
    assert inquiry.upload.id == "u2"


async def test_a_slow_provider(
    hasty: httpx2.AsyncClient, ticking: Ticking, questions: Questions, hear: Hear, integration: dict[str, Any]
) -> None:
    """Who can't be answered in time is told where the answer will be, and finds it there."""
    pending = await hasty.post(f"/v1/integrations/{integration['id']}/verify")
    place = pending.headers["Location"]
    before = (await hasty.get(place)).json()
    await ticking.send_due()
    (inquiry,) = await questions()
    await hear(_answer(inquiry, findings=(Finding(check="address", ok=True, detail="It answers."),)))
    after = (await hasty.get(place)).json()

    assert pending.status_code == 202
    assert pending.json() == {"inquiry_id": inquiry.inquiry_id, "state": "pending"}
    assert place == f"/v1/inquiries/{inquiry.inquiry_id}"
    assert (before["state"], before["answer"], before["kind"]) == ("pending", None, "verify")
    assert (after["state"], after["answer"]["ok"]) == ("answered", True)


async def test_schools_looked_up_later(
    hasty: httpx2.AsyncClient, ticking: Ticking, questions: Questions, hear: Hear, integration: dict[str, Any]
) -> None:
    """The list of schools is where the caller was pointed to; one that failed says why and what to do."""
    places = []
    for fields in ({"schools": SCHOOLS}, {"code": Code.PROV_5XX, "detail": "It answered 503."}):
        answer = await hasty.get(f"/v1/integrations/{integration['id']}/schools", params={"refresh": "true"})
        places.append(answer.headers["Location"])
        await ticking.send_due()
        await hear(_answer((await questions())[-1], **fields))
    had, failed = [(await hasty.get(place)).json() for place in places]

    assert (had["state"], len(had["answer"]["schools"])) == ("answered", 2)
    assert (failed["state"], failed["answer"], failed["code"]) == ("failed", None, "PROV_5XX")
    assert (failed["detail"], failed["next_step"]) == ("It answered 503.", Code.PROV_5XX.entry.next_step)


async def test_nobody_answers(
    hasty: httpx2.AsyncClient, database: Database, ticking: Ticking, questions: Questions, integration: dict[str, Any]
) -> None:
    """A question nobody answers is put three times in all, and ends with PROV_TIMEOUT after 90 seconds."""
    place = (await hasty.post(f"/v1/integrations/{integration['id']}/verify")).headers["Location"]
    for _ in range(5):
        await ticking.send_due()
        await ticking.send_due()
        await database.fetch("UPDATE inquiry SET publish_at = publish_at - interval '30 seconds'")
    asked = await questions()
    await ticking.look_after()
    waiting = (await hasty.get(place)).json()
    await database.fetch("UPDATE inquiry SET deadline_at = deadline_at - interval '90 seconds'")
    await ticking.look_after()
    ended = (await hasty.get(place)).json()

    assert [inquiry.inquiry_id for inquiry in asked] == [waiting["inquiry_id"]] * 3
    assert waiting["state"] == "pending"
    assert (ended["state"], ended["answer"]["ok"], ended["answer"]["code"]) == ("answered", False, "PROV_TIMEOUT")


async def test_only_the_first_answer_counts(
    hasty: httpx2.AsyncClient, ticking: Ticking, questions: Questions, hear: Hear, integration: dict[str, Any]
) -> None:
    """A question that was put twice may be answered twice: the first answer stays."""
    place = (await hasty.post(f"/v1/integrations/{integration['id']}/verify")).headers["Location"]
    await ticking.send_due()
    (inquiry,) = await questions()
    await hear(_answer(inquiry), _answer(inquiry, code=Code.PROV_5XX, detail="late"))
    await hear(_answer(inquiry, code=Code.PROV_5XX, detail="later"))

    assert (await hasty.get(place)).json()["answer"]["ok"] is True


async def test_answers_to_nobody(hear: Hear, integration: dict[str, Any], unknown_id: str) -> None:
    """Answers to questions nobody put are passed over."""
    for inquiry_id in (unknown_id, "no id of ours"):
        await hear(Answered(inquiry_id=inquiry_id, integration_id=integration["id"], at=datetime.now(UTC)))


async def test_deleted_meanwhile(
    hasty: httpx2.AsyncClient, ticking: Ticking, questions: Questions, integration: dict[str, Any]
) -> None:
    """Questions about an integration that is deleted end with INTEGRATION_DELETED and are not put any more."""
    path = f"/v1/integrations/{integration['id']}"
    places = [
        (await hasty.post(f"{path}/verify")).headers["Location"],
        (await hasty.get(f"{path}/schools")).headers["Location"],
    ]
    await hasty.delete(path)
    await ticking.send_due()
    ended = [(await hasty.get(place)).json()["code"] for place in places]
    refused = [await hasty.post(f"{path}/verify"), await hasty.get(f"{path}/schools")]

    assert ended == ["INTEGRATION_DELETED"] * 2
    assert await questions() == []
    assert [(one.status_code, one.json()["code"]) for one in refused] == [(409, "INTEGRATION_DELETED")] * 2


async def test_old_ones_are_forgotten(
    hasty: httpx2.AsyncClient, database: Database, ticking: Ticking, integration: dict[str, Any]
) -> None:
    """A question is kept for a day."""
    place = (await hasty.post(f"/v1/integrations/{integration['id']}/verify")).headers["Location"]
    await database.fetch("UPDATE inquiry SET asked_at = now() - interval '23 hours'")
    await ticking.look_after()
    assert (await hasty.get(place)).status_code == 200
    await database.fetch("UPDATE inquiry SET asked_at = now() - interval '25 hours'")
    await ticking.look_after()

    assert ((await hasty.get(place)).status_code, (await hasty.get(place)).json()["code"]) == (404, "NOT_FOUND")


async def test_who_may_ask(
    settings: ApiSettings, issuer: TestIssuer, integration: dict[str, Any], organization_id: str, unknown_id: str
) -> None:
    """Verifying takes runs.write, the schools integrations.read; others' integrations and answers are not there."""
    app = make_app(settings.model_copy(update={"inquiry_wait_seconds": 0.0}), verifier=issuer.verifier)
    verify, schools = (f"/v1/integrations/{integration['id']}/{name}" for name in ("verify", "schools"))
    seen = []
    place = ""
    for scopes, organization in (
        (["runs.write"], organization_id),
        (["integrations.read"], organization_id),
        (["integrations.write"], organization_id),
        (["runs.write", "integrations.read"], unknown_id),
    ):
        async with calling(app, issuer.token(scopes, organization_id=organization)) as client:
            answers = [await client.post(verify), await client.get(schools)]
            place = next((one.headers["Location"] for one in answers if "Location" in one.headers), place)
            answers += [await client.get(place)]
            seen.append([answer.status_code for answer in answers])

    assert seen == [[202, 403, 200], [403, 202, 200], [403, 403, 403], [404, 404, 404]]
