"""One district, many faces, one roster (A7)."""

from __future__ import annotations

from functools import partial
from random import Random
from typing import Any

from faces import FACES

from homeroom.connections import CONNECTIONS
from provider_gateway.providers import PROVIDERS
from sandbox_district import District
from sandbox_district.registrar import Registrar

DAYS = 4


def test_every_kind_has_a_face() -> None:
    """Every registered kind of provider is in this suite, under the name integrations call it by."""
    assert {face.kind for face in FACES} == set(PROVIDERS)
    assert set(PROVIDERS) <= set(CONNECTIONS)
    for kind, provider in PROVIDERS.items():
        assert provider.kind == kind
        assert provider.title
        assert provider.connection_model is CONNECTIONS[kind]


def compare(expected: Any, seen: Any) -> None:
    """Equal pictures; if not, say by how little they differ."""
    for collection, part in expected.items():
        found = seen[collection]
        if isinstance(part, dict):
            assert sorted(found) == sorted(part), collection
            differing = {key: (part[key], found[key]) for key in part if part[key] != found[key]}
            assert not differing, (collection, len(differing), dict(list(differing.items())[:2]))
        else:
            assert found == part, collection


async def test_same_roster_every_day(view: Any, reference: Any) -> None:
    """Through any face the district gives the same roster as through OneRoster 1.1, on the first day and four after."""
    for day in range(DAYS + 1):
        if day:
            view.district.advance_day()
        await reference.sync()
        await view.sync()

        lens = view.face.lens
        compare(lens.expect(reference.roster(), view.district), lens.see(view.roster()))


async def test_same_roster_by_changes(asked_view: Any, reference: Any) -> None:
    """A sync that asks for changes ends with the same roster, on days when some are gone without a word as well."""
    lens = asked_view.face.lens
    await asked_view.sync()
    for _ in range(DAYS // 2):
        asked_view.district.advance_day()
        await asked_view.sync("delta")
        await reference.sync()
        compare(lens.expect(reference.roster(), asked_view.district), lens.see(asked_view.roster()))


def pass_quiet_day(district: District, day: int) -> None:
    """Some are renamed, one is new, and one leaves a class, as the provider says."""
    registrar = Registrar(district, Random(day))
    students = [key for key, user in district.active("users").items() if user["role"] == "student"]
    for student in registrar.rng.sample(students, 3):
        district.amend("users", student, givenName=f"Renamed {day}")
    taken = [key for key, record in district.active("enrollments").items() if record["role"] == "student"]
    registrar.withdraw(registrar.rng.choice(taken), tombstone=True)
    registrar.admit_student("05")


async def test_only_changes_are_asked_for(asked_view: Any, reference: Any) -> None:
    """A provider that can tell what changed, and tells all, is not read as a whole, and the roster is the same."""
    lens, modes = asked_view.face.lens, PROVIDERS[asked_view.face.kind].capabilities["modes"]
    asked_view.options = reference.options = {"sync_demographics": True}
    await asked_view.sync()
    for day in range(3):
        asked_view.district.change(partial(pass_quiet_day, asked_view.district, day))
        outcome = await asked_view.sync("delta")
        assert outcome.completed.mode == ("delta" if "delta" in modes else "full"), outcome.completed.mode_code
        await reference.sync()
        compare(lens.expect(reference.roster(), asked_view.district), lens.see(asked_view.roster()))


async def test_nothing_new_is_nothing_to_tell(view: Any) -> None:
    """A second sync of a district that did not change publishes no record and removes nobody."""
    await view.sync()
    again = await view.sync()
    assert again.chunks == []
    assert all(not (report.added or report.changed or report.removed) for report in again.reports.values())
