"""What a filter finds in Postgres is what it means, read off the records as they are served."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime
from functools import cache
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from played_gateway import Gateway

from homeroom.roster import AcademicSession, Class, Demographics, Enrollment, Org, Role, User, UserId
from homeroom.testing.tokens import TestIssuer, calling
from roster_store.app import make_app
from roster_store.oneroster.filters import Filter, Predicate
from roster_store.oneroster.versions import VERSIONS, Version
from roster_store.settings import StoreSettings

ISSUER = TestIssuer()
WORDS = ("", "Ek", "ek", "O'Neil", "Ö", "05", "%_\\", "true", "student", "ext:aide", "2026-02-01", "s1", "s2")
FLAGS = ("true", "false")
DAYS = ("2026-01-01", "2026-02-01", "2026-02-01T10:00:00Z")


settings_of_search = settings(
    max_examples=120, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def make_people() -> list[User]:
    """People whose fields differ in whatever filters look at."""
    roles = [
        (Role(role="student", org_sourced_id="s1", role_type="primary"),),
        (
            Role(role="administrator", org_sourced_id="d"),
            Role(role="teacher", org_sourced_id="s2", role_type="primary", begin_date=date(2026, 2, 1)),
        ),
        (Role(role="administrator", org_sourced_id="d", role_type="primary"),),
        (Role(role="administrator", org_sourced_id="s1", role_type="primary"),),
        (Role(role="ext:nurse", org_sourced_id="s1", role_type="primary"),),
        (Role(role="principal", org_sourced_id="s2", role_type="primary"), Role(role="aide", org_sourced_id="s1")),
        (),
    ]
    metadata: list[dict[str, Any] | None] = [None, {"k": "Ek"}, {"k": ["05", "Ek", {"x": 1}], "n": 5}, {"k": True}, {}]
    return [
        User(
            sourced_id=f"u{number}",
            given_name=WORDS[number % len(WORDS)],
            family_name=WORDS[(number * 5 + 1) % len(WORDS)],
            roles=roles[number % len(roles)],
            username=None if number % 3 else WORDS[number % 5],
            enabled_user=number % 4 != 0,
            middle_name=None if number % 2 else "Ek",
            grades=("05", "Ek")[: number % 3],
            user_ids=(UserId(type="SIS", identifier="05"),)[: number % 2],
            agent_sourced_ids=("u1",)[: number % 2],
            metadata=metadata[number % len(metadata)],
        )
        for number in range(21)
    ]


def make_roster() -> dict[str, list[Any]]:
    """A roster with something missing everywhere."""
    return {
        "orgs": [
            Org(sourced_id="d", name="Ek", type="district"),
            Org(sourced_id="s1", name="O'Neil", type="school", identifier="05", parent_sourced_id="d"),
            Org(sourced_id="s2", name="", type="school"),
        ],
        "academicSessions": [
            AcademicSession(
                sourced_id=f"t{number}",
                title=WORDS[number],
                type="term" if number % 2 else "gradingPeriod",
                start_date=date(2026, number, 1),
                end_date=date(2026, number + 1, 1),
                parent_sourced_id="t1" if number == 2 else None,
            )
            for number in (1, 2, 3)
        ],
        "classes": [
            Class(
                sourced_id=f"c{number}",
                title=WORDS[number],
                school_sourced_id=f"s{1 + number % 2}",
                class_type="homeroom" if number else None,
                term_sourced_ids=("t1", "t2")[:number],
                subjects=("Ek", "05")[: number % 3],
            )
            for number in range(3)
        ],
        "users": make_people(),
        "enrollments": [
            Enrollment(
                sourced_id=f"e{number}",
                user_sourced_id=f"u{number}",
                class_sourced_id=f"c{number % 3}",
                school_sourced_id="s1" if number % 2 else None,
                role=("student", "teacher", "aide", "ext:nurse")[number % 4],
                primary=(None, True, False)[number % 3],
                begin_date=None if number % 4 else date(2026, 2, 1),
            )
            for number in range(8)
        ],
        "demographics": [
            Demographics(
                sourced_id=f"u{number}",
                sex=(None, "male", "other")[number % 3],
                asian=(None, True, False)[number % 3],
                birth_date=None if number == 1 else date(2026, 1 + number % 2, 1),
                frl_status="Ek" if number % 2 else None,
                iep_status=(None, True, False)[number % 3],
                metadata=[None, {"iep_status": "Ek"}][number % 2],
            )
            for number in range(6)
        ],
    }


# ── what a filter means, written once more ────────────────────────────────────────────────────────────────────────


def read_path(record: Any, path: list[str]) -> list[Any]:
    """The values at a path; through lists too."""
    if isinstance(record, list):
        return [value for one in record for value in read_path(one, path)]
    if not path:
        return [] if record is None or isinstance(record, dict) else [record]
    return read_path(record[path[0]], path[1:]) if isinstance(record, dict) and path[0] in record else []


def spell(value: Any) -> str:
    """A value as text, as JSON has it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def compare(record: dict[str, Any], predicate: Predicate) -> bool:
    """Whether a served record fits one comparison."""
    name, _, rest = predicate.path.partition(".")
    path = [name, rest] if name == "metadata" else predicate.path.split(".")
    found = [spell(value) for value in read_path(record, path)]
    wanted = predicate.value
    if name == "dateLastModified":
        found = [one.replace("Z", "+00:00") for one in found]
        wanted = datetime.fromisoformat(wanted).replace(tzinfo=UTC).isoformat(timespec="milliseconds")
    if name.endswith("Date") and name in record | dict.fromkeys(("beginDate", "birthDate")):
        wanted = wanted[:10]
    signs: dict[str, Callable[[str], bool]] = {
        "=": lambda one: one == wanted,
        ">": lambda one: one > wanted,
        ">=": lambda one: one >= wanted,
        "<": lambda one: one < wanted,
        "<=": lambda one: one <= wanted,
        "~": lambda one: wanted.lower() in one.lower(),
    }
    if predicate.operator == "!=":
        return wanted not in found
    return any(map(signs[predicate.operator], found))


def fits(record: dict[str, Any], wanted: Filter) -> bool:
    """Whether a served record fits a filter."""
    return any(all(compare(record, predicate) for predicate in group) for group in wanted.groups)


@cache
def predicates_of(version: Version, collection: str) -> st.SearchStrategy[Predicate]:
    """Comparisons that make sense, of every field there is."""
    choices: list[st.SearchStrategy[Predicate]] = []
    text = st.sampled_from(("=", "!=", ">", ">=", "<", "<=", "~"))
    time = st.sampled_from(("=", "!=", ">", ">=", "<", "<="))
    for name, field in version.shapes[collection].fields.items():
        for rest, leaf in field.leaves.items():
            paths = (
                [f"{name}.{key}" for key in ("k", "n", "iep_status")] if rest == "*" else [f"{name}.{rest}".strip(".")]
            )
            operators, values = {
                "text": (text, WORDS),
                "texts": (text, WORDS),
                "flag": (st.sampled_from(("=", "!=")), FLAGS),
                "day": (time, DAYS),
                "moment": (time, ("2026-02-01", "2999-01-01T00:00:00")),
            }[leaf.kind]
            choices += [st.builds(Predicate, st.just(path), operators, st.sampled_from(values)) for path in paths]
    return st.one_of(choices)


@pytest.fixture
async def served(gateway: Gateway, settings: StoreSettings) -> AsyncIterator[httpx2.AsyncClient]:
    """The roster, served, with some of it removed."""
    await gateway.sync(make_roster(), chunk_records=50)
    await gateway.sync({}, {"users": ["u3", "u8"], "classes": ["c1"], "enrollments": ["e3"]})
    token = ISSUER.token(["roster.read", "demographics.read"])
    async with calling(make_app(settings, ISSUER.verifier), token) as client:
        yield client


async def test_filters_find_what_they_mean(served: httpx2.AsyncClient) -> None:
    """Of every field of every collection in both versions, a filter gives exactly the records that fit as served."""
    questions: list[tuple[Version, str, Filter]] = []
    groups = st.lists(st.integers(1, 2), min_size=1, max_size=2)

    @settings_of_search
    @given(st.data())
    def choose(data: st.DataObject) -> None:
        version = data.draw(st.sampled_from(VERSIONS))
        collection = data.draw(st.sampled_from(sorted(version.shapes)))
        one = predicates_of(version, collection)
        questions.append(
            (version, collection, Filter(tuple(tuple(data.draw(one) for _ in range(n)) for n in data.draw(groups))))
        )

    choose()
    everything = {
        (version.base, collection): await ask(served, version, collection, "status!='x'")
        for version in VERSIONS
        for collection in version.shapes
    }
    wrong = []
    for version, collection, wanted in questions:
        known = everything[version.base, collection]
        if wanted.paths.isdisjoint({"status", "dateLastModified"}):
            known = [record for record in known if record["status"] == "active"]
        found = await ask(served, version, collection, str(wanted))
        if found != [record for record in known if fits(record, wanted)]:
            wrong.append((version.number, collection, str(wanted)))
    assert len(questions) >= 100
    assert wrong == []


async def ask(client: httpx2.AsyncClient, version: Version, collection: str, wanted: str) -> list[dict[str, Any]]:
    """Everything a filter gives."""
    answer = await client.get(f"{version.base}/{collection}", params={"filter": wanted, "limit": 1_000})
    assert answer.status_code == 200, (wanted, answer.text)
    found: list[dict[str, Any]] = answer.json()[collection]
    assert answer.headers["x-total-count"] == str(len(found))
    return found


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.number)
async def test_every_scalar_sorts(served: httpx2.AsyncClient, version: Version) -> None:
    """By each scalar field lists are in the order of code points both ways, what is missing last, ids apart."""
    for collection, shape in version.shapes.items():
        for name, field in shape.fields.items():
            for rest, leaf in field.leaves.items():
                path = f"{name}.{'k' if rest == '*' else rest}".strip(".")
                if leaf.order is None or name == "dateLastModified":
                    continue
                for order in ("asc", "desc"):
                    query = {"sort": path, "orderBy": order, "limit": 1_000}
                    found = (await served.get(f"{version.base}/{collection}", params=query)).json()[collection]
                    keys = [
                        ([spell(value) for value in read_path(record, path.split("."))], record["sourcedId"])
                        for record in found
                        if not isinstance(record["metadata"].get("k") if name == "metadata" else None, list)
                    ]
                    present = [key for key in keys if key[0]]
                    assert present == sorted(present, reverse=order == "desc"), (collection, path, order)
                    assert all(key[0] for key in keys[: len(present)]), (collection, path, order)
