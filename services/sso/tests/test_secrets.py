"""Secrets of clients are exchanged without anybody standing still."""

from typing import Any

from pydantic import SecretStr

from homeroom.clock import MovingClock
from homeroom.db import Database
from homeroom.testing.tokens import calling
from sso.app import create
from sso.settings import Settings


async def _create(service: Any) -> tuple[str, str]:
    answer = await service.client.post("/v1/clients", headers=await service.boss(), json={"scopes": ["roster.read"]})
    return answer.json()["id"], answer.json()["secret"]


async def _exchange(service: Any, name: str, **body: Any) -> Any:
    path = f"/v1/clients/{name}/secrets"
    return await service.client.post(path, headers=await service.boss(), json=body or None)


async def _which(service: Any, name: str, *shown: str) -> list[bool]:
    """Which of these secrets are good for a token."""
    return [(await service.ask(name, secret)).status_code == 200 for secret in shown]


async def test_the_old_secret_holds_for_a_while(service: Any, settings: Settings) -> None:
    """For a day by default both secrets are good, then only the new one is; the list says until when."""
    name, old = await _create(service)
    answer = await _exchange(service, name)
    new = answer.json()["secret"]
    assert answer.status_code == 201
    assert answer.json()["overlap_until"] is not None
    assert await _which(service, name, old, new) == [True, True]
    listed = await service.client.get("/v1/clients", headers=await service.boss())
    assert new not in listed.text
    async with Database.open(settings.database_url.get_secret_value(), schema="sso", size=1) as database:
        left = await database.fetchval("SELECT previous_until - now() FROM client WHERE id = $1", name)
        assert 23.9 < left.total_seconds() / 3600 <= 24
        await database.fetch("UPDATE client SET previous_until = now() WHERE id = $1", name)
    assert await _which(service, name, old, new) == [False, True]


async def test_no_overlap_ends_the_old_secret_at_once(service: Any) -> None:
    """A secret that leaked is good for nothing from the moment on it is exchanged without an overlap."""
    name, old = await _create(service)
    between = (await _exchange(service, name)).json()["secret"]
    new = (await _exchange(service, name, overlap_hours=0)).json()
    assert new["overlap_until"] is None
    assert await _which(service, name, old, between, new["secret"]) == [False, False, True]


async def test_two_secrets_hold_at_most(service: Any) -> None:
    """Of three the oldest ends; but a new one that nobody ever used was lost, and the one in use stays good."""
    name, first = await _create(service)
    assert await _which(service, name, first) == [True]
    lost = (await _exchange(service, name)).json()["secret"]
    second = (await _exchange(service, name)).json()["secret"]
    assert await _which(service, name, first, lost, second) == [True, False, True]
    third = (await _exchange(service, name)).json()["secret"]
    assert await _which(service, name, first, second, third) == [False, True, True]


async def test_overlaps_have_bounds(service: Any) -> None:
    """An overlap is a number of hours, a month at most."""
    name, _ = await _create(service)
    headers = await service.boss() | {"Content-Type": "application/json"}
    for hours in ("-1", "720.5", '"24"', "null", "1e400", "NaN"):
        answer = await service.client.post(
            f"/v1/clients/{name}/secrets", headers=headers, content=f'{{"overlap_hours": {hours}}}'
        )
        assert (answer.status_code, answer.json()["code"]) == (422, "REQUEST_INVALID"), hours


async def test_whose_secrets_are_not_exchanged(service: Any, settings: Settings, clock: MovingClock) -> None:
    """Unknown and disabled clients get none; a declared one's secret is the operator's while it is declared."""
    name, _ = await _create(service)
    await service.client.delete(f"/v1/clients/{name}", headers=await service.boss())
    answers = [await _exchange(service, one) for one in ("nobody", name, "gateway")]
    assert [answer.json()["code"] for answer in answers] == ["NOT_FOUND", "NOT_FOUND", "CLIENT_DECLARED"]

    later = settings.model_copy(update={"bootstrap_clients": SecretStr("[]")})
    later.__dict__.pop("declared_clients", None)  # read before, and kept
    async with calling(create(later, clock)):
        assert (await _exchange(service, "gateway")).status_code == 201
