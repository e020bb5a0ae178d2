"""What is told of launches: to whom it may be, of whom it may be, and nothing that was received (E2)."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from uuid import UUID, uuid4

import pytest
from connecting import make_connection
from roster_stand_in import District, PlayedRoster, make_district

from homeroom.clock import MovingClock
from homeroom.codes import Code
from homeroom.telemetry import LAUNCHES
from sso.launch.arrivals import Arrival
from sso.launch.flows import Intent
from sso.launch.refusals import Refused
from sso.launch.traces import Launches, make_support_id, read_support_id
from sso.launch.upkeep import count_day
from sso.settings import Settings

if TYPE_CHECKING:
    from conftest import Service


class Desk:
    """Whoever is asked why somebody can't come in."""

    def __init__(self, service: Service, headers: dict[str, str]) -> None:
        self.service, self.headers = service, headers

    async def get(self, path: str, *, status: int = 200, **query: Any) -> Any:
        """What a route answers."""
        answer = await self.service.client.get(f"/v1{path}", headers=self.headers, params=query)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def ids(self, **query: Any) -> list[str]:
        """The support ids of a list, page by page of two."""
        found: list[str] = []
        page = await self.get("/launches", limit=2, **query)
        while True:
            found += [one["support_id"] for one in page["items"]]
            if page["cursor"] is None:
                return found
            page = await self.get("/launches", limit=2, cursor=page["cursor"], **query)


@pytest.fixture
async def desk(service: Service) -> Desk:
    """An admin of the platform."""
    return Desk(service, await service.boss())


async def sit_down(service: Service, organization_id: UUID, scopes: list[str]) -> Desk:
    """An admin of one organization."""
    body = {"scopes": scopes, "organization_id": str(organization_id)}
    made = (await service.client.post("/v1/clients", json=body, headers=await service.boss())).json()
    return Desk(service, {"Authorization": f"Bearer {await service.token(made['id'], made['secret'])}"})


async def launch(
    service: Service, upstream_id: UUID, subject: str, key: str | None, product_id: UUID | None = None
) -> str:
    """Somebody comes by an upstream; the support id of their launch."""
    upstream = await service.launching.upstreams.find(upstream_id)
    assert upstream is not None
    launches = service.launching.launches
    trace = launches.begin("launch", upstream.kind)
    trace.facts |= {"upstream_id": upstream_id, "product_id": product_id}
    try:
        await service.launching.identify(
            Arrival(upstream, subject, None, key, shown_as="Wrenfeather"), Intent("launch", product_id), trace
        )
    except Refused as refused:
        trace.note("refused", code=refused.code, why=refused.why)
        await launches.write(trace, "refused", refused.code)
    else:
        await launches.write(trace, "completed")
    return trace.support_id


async def test_a_launch_is_found_by_its_support_id(
    service: Service, settings: Settings, desk: Desk, roster: PlayedRoster, district: District
) -> None:
    """However it was typed, with the reason in words and who it was, if the roster knew them."""
    upstream_id, connection_id = await make_connection(
        service.database, settings, organization_id=district.organization_id
    )
    roster.add(district.integration_id, "user-1")
    good = await launch(service, upstream_id, "1", "user-1")
    bad = await launch(service, upstream_id, "2", "user-2", district.product_id)
    found = await desk.get(f"/launches/{good.lower().replace('-', ' ')}")
    assert (found["state"], found["sourced_id"], found["reason"]) == ("completed", "user-1", None)
    assert found["connection_id"] == str(connection_id)
    found = await desk.get(f"/launches/{bad.removeprefix('HR-')}")
    assert found["sourced_id"] is None
    assert found["reason"]["code"] == Code.SIGNIN_NOT_ROSTERED
    assert found["reason"]["title"] == Code.SIGNIN_NOT_ROSTERED.entry.title
    assert found["reason"]["why"] == "not in the roster"
    assert [step["what"] for step in found["steps"]] == ["not identified", "refused"]
    assert await desk.ids() == [bad, good]
    assert await desk.ids(code="SIGNIN_NOT_ROSTERED") == await desk.ids(product=str(district.product_id)) == [bad]
    assert await desk.ids(state="completed", connection=str(connection_id)) == [good]
    assert await desk.ids(began_from="2020-01-01T00:00:00Z", organization=str(district.organization_id)) == [bad, good]
    assert await desk.ids(began_from="2100-01-01T00:00:00Z") == await desk.ids(connection=str(uuid4())) == []
    for nothing in ("HR-0000-0000", "'; DROP TABLE launch; --", "U" * 8, "\u0661" * 8):
        await desk.get(f"/launches/{nothing}", status=404)
    await desk.get("/launches", status=400, cursor="bm9wZQ")


async def test_attack_74_an_organization_sees_its_own_launches_only(
    service: Service, settings: Settings, district: District
) -> None:
    """Another's launches do not exist for it, by id, in lists or in numbers; nor do those that found no district."""
    other = await make_district(service.database, "South")
    upstreams = [
        (await make_connection(service.database, settings, organization_id=one.organization_id))[0]
        for one in (district, other)
    ]
    shared, _ = await make_connection(service.database, settings, shared=True, tenant="9", kind="clever")
    ours, theirs = [await launch(service, one, "1", "user-1") for one in upstreams]
    nobodys = await launch(service, shared, "1", "user-1")
    desk = await sit_down(service, district.organization_id, ["launches.read"])
    assert await desk.ids() == [ours]
    assert (await desk.get(f"/launches/{ours}"))["support_id"] == ours
    for hidden in (theirs, nobodys):
        await desk.get(f"/launches/{hidden}", status=404)
    await desk.get("/launches", status=404, organization=str(other.organization_id))
    assert await desk.ids(connection=str(upstreams[1])) == []
    assert (await desk.get(f"/connections/{upstreams[0]}/statistics"))["launches"] == 1
    await desk.get(f"/connections/{upstreams[1]}/statistics", status=404)
    without = await sit_down(service, district.organization_id, ["connections.read"])
    await without.get("/launches", status=403)


async def test_a_days_launches_are_counted_once(
    service: Service, settings: Settings, desk: Desk, roster: PlayedRoster, district: District
) -> None:
    """Numbers by day and outcome stay the same when a day is counted, and when its traces go; trials don't count."""
    upstream_id, connection_id = await make_connection(
        service.database, settings, organization_id=district.organization_id
    )
    path = f"/connections/{connection_id}/statistics"
    assert (await desk.get(path))["availability"] is None
    roster.add(district.integration_id, "user-1")
    for subject, key in (("1", "user-1"), ("1", "user-1"), ("1", "user-1"), ("2", "user-2")):
        await launch(service, upstream_id, subject, key)
    for purpose, state in (("launch", "begun"), ("launch", "abandoned"), ("test", "completed")):
        await service.database.fetch(
            "INSERT INTO launch (id, support_id, purpose, state, upstream_id, connection_id, ended_at) "
            "VALUES ($1, 'HR-0000-0000', $2, $3, $4, $4, CASE WHEN $3 <> 'begun' THEN now() END)",
            uuid4() if purpose == "test" else UUID(int=uuid4().int | 0xFFFF << 112),
            purpose,
            state,
            upstream_id,
        )
    told = await desk.get(path)
    assert (told["launches"], told["completed"], told["availability"]) == (5, 3, 0.6)
    (day,) = told["days"]
    assert day["outcomes"] == {"completed": 3, "abandoned": 1, "SIGNIN_NOT_ROSTERED": 1}
    await service.database.fetch("UPDATE launch SET began_at = began_at - interval '2 days'")
    await service.database.fetch("UPDATE launch SET state = 'abandoned', ended_at = now() WHERE state = 'begun'")
    counted = []
    while (one := await service.database.transact(count_day)) is not None:
        counted.append(one)
    assert len(counted) in (1, 2)  # the second one is over since less than an hour, perhaps
    for _ in range(2):
        told = await desk.get(path)
        assert (told["launches"], told["completed"]) == (6, 3)
        await service.database.fetch("DELETE FROM launch")
    assert (await desk.get(path, days=1))["launches"] == 0


async def test_attack_73_nothing_that_was_received_is_kept_or_logged(
    service: Service,
    settings: Settings,
    district: District,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Names, ids and line breaks of an arrival, or of a query, stand in no trace, on no page and in no log."""
    upstream_id, _ = await make_connection(service.database, settings, organization_id=district.organization_id)
    evil = 'Okonjuvala\n{"level":"error"}\r\nSet-Cookie: a=b'
    await launch(service, upstream_id, evil, evil)
    for path in (
        f"/sso/launch/{upstream_id}?product={quote(evil)}&destination={quote(evil)}",
        f"/sso/launch/{uuid4()}?code=Okonjuvala",
        f"/sso/open/{uuid4()}",
    ):
        page = await service.client.get(path, headers={"User-Agent": "Okonjuvala", "X-Request-Id": "Okonjuvala"})
        assert page.status_code >= 400
        assert "HR-" in page.text
        assert "Okonjuvala" not in page.text
    rows = await service.database.fetch("SELECT to_jsonb(launch) AS row FROM launch")
    assert len(rows) == 4
    stored = json.dumps([row["row"] for row in rows])
    logged = "".join(capsys.readouterr())
    for text in (stored, logged):
        assert "Okonjuvala" not in text
        assert "Wrenfeather" not in text
        assert "Set-Cookie" not in text


def test_a_step_is_one_short_line() -> None:
    """Should something received ever be noted as a step, it can neither break a line nor fill the database."""
    trace = Launches(None, MovingClock(datetime(2026, 9, 1, tzinfo=UTC))).begin("launch")  # type: ignore[arg-type]  # nothing is written
    for _ in range(100):
        trace.note("refused", why="a\nb\u2028c" + "x" * 10_000, number=7)
    assert len(trace.steps) == 40
    assert trace.steps[0]["why"].startswith("a b cxxx")
    assert len(trace.steps[0]["why"]) == 200
    assert trace.steps[0]["number"] == 7


async def test_what_has_ended_stays_as_it_ended(service: Service) -> None:
    """A later word changes neither the outcome nor the numbers; steps are added, up to a bound."""
    launches = service.launching.launches
    trace = launches.begin("launch", "clever")

    def value() -> float:
        return sum(one.value for metric in LAUNCHES.collect() for one in metric.samples if one.name.endswith("_total"))

    before = value()
    await launches.write(trace, "completed")
    for _ in range(5):
        for _ in range(40):
            trace.note("again")
        await launches.write(trace, "refused", Code.SIGNIN_FAILED)
    assert value() == before + 1
    row = await service.database.fetchrow("SELECT state, code, jsonb_array_length(steps) AS steps FROM launch")
    assert row is not None
    assert (row["state"], row["code"]) == ("completed", None)
    assert row["steps"] == 120


def test_support_ids_are_read_as_people_type_them() -> None:
    """What is made is read again, in small letters, without dashes, with letters that look like digits."""
    for _ in range(50):
        made = make_support_id()
        for typed in (made, made.lower(), made.replace("-", ""), f" {made} ", made.replace("0", "O").replace("1", "l")):
            assert read_support_id(typed) == made
    for wrong in ("", "HR", "HR-1234-567", "HR-1234-56789", "HR-UUUU-UUUU"):
        assert read_support_id(wrong) is None
