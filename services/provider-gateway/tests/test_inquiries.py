"""Questions about a district, answered without a run (C4, C11, C13)."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from starlette.responses import Response

from homeroom.codes import Code
from homeroom.messages import Answered, Inquiry
from provider_gateway.inquiries import answer_inquiry


async def ask(gateway: Any, kind: str = "verify", *, seconds: float = 20, **options: Any) -> Answered:
    job = gateway.job(options=options)
    inquiry = Inquiry(
        inquiry_id=str(uuid4()),
        kind=kind,  # type: ignore[arg-type]  # one of the two
        integration_id=job.integration_id,
        organization_id=job.organization_id,
        provider=job.provider,
        connection=job.connection,
        sealed_secret=job.sealed_secret,
        options=job.options,
        deadline=datetime.now(UTC) + timedelta(seconds=seconds),
        today=job.today,
    )
    return await answer_inquiry(gateway.workshop(None), inquiry)


def checks(answer: Answered) -> dict[str, bool]:
    return {finding.check: finding.ok for finding in answer.findings}


async def test_sound_district(gateway: Any, provider: Any, user: Any) -> None:
    """A district that can be read is verified line by line with counts, and only first pages are asked for."""
    provider.collections["users"] = [user(n) for n in range(900)]
    provider.collections["orgs"] = [{"sourcedId": "s1", "name": "North", "type": "school"}]
    answer = await ask(gateway)
    assert (answer.code, answer.detail) == (None, None)
    assert all(checks(answer).values())
    assert {finding.check: finding.count for finding in answer.findings}["users"] == 900
    assert [path for path, _ in provider.queries].count("/ims/oneroster/v1p1/users") == 1


async def test_masked_fields_are_reported(gateway: Any, provider: Any, user: Any) -> None:
    """A verification names masked fields before they could do harm."""
    provider.collections["users"] = [user(n, phone="555-0100", email=f"{n}***@district.example") for n in range(40)]
    found = [finding for finding in (await ask(gateway)).findings if finding.code is Code.FIELD_MASKED]
    assert {finding.detail.split()[0] for finding in found} == {"phone", "email"}
    assert all(finding.ok for finding in found)


async def test_a_collection_that_is_refused(gateway: Any, provider: Any, user: Any) -> None:
    """A collection that is not shared fails the verification by its code; the others are looked at all the same."""
    provider.collections["users"] = [user(1)]
    provider.answer = lambda collection, *_: Response(status_code=403) if collection == "academicSessions" else None
    answer = await ask(gateway)
    assert answer.code is Code.PROV_SCOPE
    assert checks(answer) == {
        "orgs": True, "academicSessions": False, "courses": True, "classes": True, "users": True,
        "masked fields": True, "enrollments": True,
    }  # fmt: skip


async def test_wrong_credentials(gateway: Any, provider: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Wrong credentials end the verification at once, without asking for more and without telling the secret."""
    gateway.secrets = {"client_secret": "canary-secret"}
    provider.answer = lambda *_: Response(status_code=401)
    with caplog.at_level(logging.DEBUG):
        answer = await ask(gateway)
    assert answer.code is Code.AUTH_INVALID
    assert len(answer.findings) == 1
    assert "canary-secret" not in caplog.text + str(answer)


async def test_damaged_records(gateway: Any, provider: Any, user: Any) -> None:
    """Records that can't be taken are told with the reason; only if none can be taken does the verification fail."""
    provider.collections["users"] = [user(1), user(2, role="wizard")]
    answer = await ask(gateway)
    finding = next(one for one in answer.findings if one.check == "users")
    assert (finding.ok, finding.code) == (True, Code.BAD_ENUM)
    provider.collections["users"] = [user(2, role="wizard")]
    assert (await ask(gateway)).code is Code.BAD_ENUM


async def test_schools(gateway: Any, provider: Any) -> None:
    """The list of schools has every school by name, and nothing but schools."""
    provider.collections["orgs"] = [
        {"sourcedId": "2", "name": "south", "type": "school"},
        {"sourcedId": "1", "name": "North", "type": "school", "identifier": "N-1"},
        {"sourcedId": "0", "name": "District", "type": "district"},
    ]
    answer = await ask(gateway, "schools")
    assert [(school.sourced_id, school.name, school.identifier) for school in answer.schools] == [
        ("1", "North", "N-1"),
        ("2", "south", None),
    ]


async def test_deadline(gateway: Any, provider: Any) -> None:
    """A question whose time is over is answered so, instead of keeping anybody waiting."""
    assert (await ask(gateway, seconds=-1)).code is Code.PROV_TIMEOUT
    assert provider.queries == []


async def test_secrets_that_can_not_be_opened(gateway: Any) -> None:
    """Credentials sealed for another integration are not used."""
    job = gateway.job()
    gateway.integration_id = str(uuid4())
    answer = await answer_inquiry(
        gateway.workshop(None),
        Inquiry(
            inquiry_id="i", kind="verify", integration_id=gateway.integration_id, organization_id=job.organization_id,
            provider="oneroster", connection=job.connection, sealed_secret=job.sealed_secret, options=job.options,
            deadline=datetime.now(UTC) + timedelta(seconds=5), today=job.today,
        ),
    )  # fmt: skip
    assert answer.code is Code.SECRET_UNREADABLE
