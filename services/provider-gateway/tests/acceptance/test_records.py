"""What nobody knows is kept, and what nobody should know is nowhere."""

from __future__ import annotations

import json
import logging
from typing import Any

import msgspec
import pytest

from homeroom.messages import Chunk
from sandbox_district import District, faults
from sandbox_district.server import Sandbox

NEWS = "a-value-of-a-field-that-nobody-knows"
CANARIES = {
    "givenName": "Canarygiven",
    "familyName": "Canaryfamily",
    "email": "canary.mail@canary.example",
    "username": "canary-user-name",
    "identifier": "canary-identifier",
    "phone": "+1-209-555-0123-canary",
}
"""One for whatever may identify a person."""
CITY = "Canarytown"
PASSWORD = "canary-of-a-duck"


def first_student(district: District, grade: str = "09") -> str:
    """A student in a school that every face shows."""
    users = district.active("users").items()
    return next(key for key, user in users if user["role"] == "student" and user["grades"] == [grade])


async def test_unknown_fields_are_kept(view: Any) -> None:
    """A field that no specification names is kept with its record, and a change of it alone is a change."""
    if not view.face.sees_metadata:
        pytest.skip("this face has no fields of a person's that a district could add")
    student = first_student(view.district)
    metadata = view.district.collections["users"][student]["metadata"]
    view.district.change(lambda: view.district.amend("users", student, metadata=metadata | {"vendor.news": NEWS}))
    await view.sync()
    holders = [user for user in view.roster()["users"].values() if NEWS in json.dumps(user.get("metadata"))]
    assert len(holders) == 1

    view.district.change(
        lambda: view.district.amend("users", student, metadata=metadata | {"vendor.news": f"{NEWS} 2"})
    )
    outcome = await view.sync()
    assert (outcome.reports["users"].added, outcome.reports["users"].changed) == (0, 1)
    assert outcome.reports["users"].removed == 0


async def test_passwords_are_never_taken(view: Any) -> None:
    """A password that a provider sends with a person is in no record and no message."""
    student = first_student(view.district)
    view.district.change(lambda: view.district.amend("users", student, password=PASSWORD))
    outcome = await view.sync()
    assert PASSWORD not in json.dumps(view.roster())
    assert not any(PASSWORD.encode() in msgspec.json.encode(change) for change in outcome.changes)


@pytest.fixture
def written(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Any:
    """Everything that was logged or printed so far, read when asked for."""
    caplog.set_level(logging.INFO)
    for name in ("provider_gateway", "homeroom", "httpx2", "httpcore2", "asyncio"):
        caplog.set_level(logging.DEBUG, logger=name)

    class Written(list[str]):
        def collect(self) -> str:
            out, err = capfd.readouterr()
            records = [f"{record.getMessage()} {record.args} {record.exc_text}" for record in caplog.records]
            self += [caplog.text, *records, out, err]
            return "\n".join(self)

    return Written()


def plant(district: District) -> None:
    """Give somebody a name, an address and a birthplace that stand nowhere else."""
    student = first_student(district)
    district.change(
        lambda: (
            district.amend("users", student, **CANARIES),
            district.amend("demographics", student, cityOfBirth=CITY, birthDate="1999-12-31"),
        )
    )


def assert_silent(text: str, view: Any) -> None:
    secrets = {part for value in view.gateway.secrets.values() for part in _parts_of(value)}
    for canary in (*CANARIES.values(), CITY, "1999-12-31", *secrets):
        assert canary not in text


def tell(outcome: Any) -> str:
    """All that a run said but the records themselves."""
    told = [msgspec.json.encode(change) for change in outcome.changes if not isinstance(change, Chunk)]
    return b"\n".join(told + [msgspec.json.encode(fact) for fact in outcome.facts]).decode()


def _parts_of(secret: str) -> list[str]:
    """A secret, or the secret part of a key file."""
    if secret.startswith("{"):
        return [json.loads(secret)["private_key"][60:100]]
    return [secret]


async def test_nothing_personal_is_told(view: Any, written: Any) -> None:
    """A run that goes well logs, and tells in its facts, neither a person nor a secret."""
    plant(view.district)
    outcome = await view.sync()
    assert_silent(written.collect() + tell(outcome), view)


TROUBLE: list[faults.Fault] = [
    faults.BadRecords(rows=40),
    faults.Truncate(),
    faults.Unauthorized(),
    faults.ServerError(),
    faults.HtmlLogin(after=1),
    faults.TokenExpiry(requests=2),
]


async def test_nothing_personal_is_told_in_trouble(asked_view: Any, sandbox: Sandbox, written: Any) -> None:
    """A run with trouble says what is wrong with neither a person nor a secret in it."""
    plant(asked_view.district)
    for fault in TROUBLE:
        sandbox.faults.replace(msgspec.structs.replace(fault, path=asked_view.face.people))
        assert_silent(written.collect() + tell(await asked_view.run(page_size=20)), asked_view)


async def test_secrets_are_not_in_addresses(asked_view: Any, sandbox: Sandbox) -> None:
    """No secret is part of a path that was asked for."""
    await asked_view.sync()
    paths = "\n".join(sandbox.requests)
    assert not any(part in paths for value in asked_view.gateway.secrets.values() for part in _parts_of(value))
