"""What changed in a district, by Clever's events: the roster of a fresh read, or everything is compared."""

import copy
import resource
from datetime import timedelta
from random import Random
from typing import Any

import msgspec
import pytest
from starlette.responses import HTMLResponse
from toy_clever import ALL, MARKS, TinyClever, connect_clever, make_contact, make_person, make_section, make_student

from homeroom.codes import Code

NOTHING_LEFT = [(0, 0, 0)]


@pytest.fixture
async def clever(serve: Any, gateway: Any) -> TinyClever:
    """A small district at Clever that the gateway is connected to."""
    return await connect_clever(serve, gateway)


def held(gateway: Any) -> dict[str, dict[str, Any]]:
    """What the store holds, to the byte."""
    return copy.deepcopy(gateway.store.records)


async def sync_changes(gateway: Any, **options: Any) -> Any:
    """A run that asks for changes only."""
    return await gateway.sync(job=gateway.job(mode="delta", options=options))


async def compare_whole(gateway: Any, **options: Any) -> Any:
    """A run that compares everything; what it finds is what changes did not bring."""
    outcome = await gateway.run(job=gateway.job(options=options, bookmark=None))
    assert outcome.failure is None, outcome.failure
    return {name: (one.added, one.changed, one.removed) for name, one in outcome.reports.items()}


async def test_where_there_are_no_events_everything_is_compared(gateway: Any, clever: TinyClever) -> None:
    """An application without events has no increments, and says so in its bookmark."""
    clever.answer = lambda path, _: HTMLResponse("no", 403) if path == "/v3.0/events" else None
    outcome = await gateway.sync()
    assert not outcome.completed.bookmark.increments


async def test_no_events_change_nothing(gateway: Any, clever: TinyClever) -> None:
    """Where nothing happened, two requests are all there is."""
    await gateway.sync(options=ALL)
    clever.asked.clear()
    outcome = await sync_changes(gateway, **ALL)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("delta", None)
    assert clever.paths() == {"/v3.0/districts/d1", "/v3.0/events"}
    assert outcome.chunks == []
    assert outcome.completed.bookmark.state == {"event": clever.events[-1]["id"]}


async def test_changes_lead_to_the_same_roster(gateway: Any, clever: TinyClever) -> None:
    """Joiners, leavers, a new teacher, deleted sections and people: as if everything had been compared."""
    await gateway.sync(options=MARKS)
    clever.amend("sections", "c1", students=["u1", "u4"], teacher="v2", teachers=["v2", "v9"])
    clever.put("users", make_person("v9", teacher={"school": "s1"}))
    clever.amend("users", "u1", email="new@lake.example")
    clever.drop("users", "u2")
    clever.drop("sections", "c2")
    clever.put("sections", make_section("c3", ["u1"], []))
    clever.amend("users", "u5", roles={"teacher": {"school": "s2"}})
    clever.amend("schools", "s2", name="South")
    clever.amend("districts", "d1", name="Lake Verity Unified", state="success")
    clever.drop("terms", "t1")
    clever.tell("resources.created", {"id": "r1"})
    outcome = await sync_changes(gateway, **MARKS)
    assert outcome.completed.mode == "delta"
    assert set(gateway.store.records["enrollments"]) == {
        "c1_u1_student", "c1_u4_student", "c1_v2_teacher", "c1_v9_teacher", "c3_u1_student",
    }  # fmt: skip
    assert set(gateway.store.records["demographics"]) == {"u0", "u1", "u3", "u4"}
    assert list((await compare_whole(gateway, **MARKS)).values()) == NOTHING_LEFT * 7


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("options", [MARKS, ALL, {"sync_classes": False}], ids=["marks", "parents", "no classes"])
async def test_full_and_events_equal_a_fresh_full(
    gateway: Any, clever: TinyClever, seed: int, options: dict[str, Any]
) -> None:
    """Whatever is edited, and however often its events come, the roster is that of a fresh read, byte for byte."""
    rng = Random(seed)
    clever.page = rng.choice((None, 2, 3))
    await gateway.sync(options=options)
    for _ in range(3):
        for _ in range(rng.randrange(1, 12)):
            edit(clever, rng)
        clever.events += [event | {} for event in clever.events[-1:]]  # one that comes twice
        outcome = await sync_changes(gateway, **options)
        assert outcome.completed.mode == "delta" or options is ALL
    integrated = held(gateway)
    gateway.store.records = {collection: {} for collection in gateway.store.records}
    gateway.bookmark = None
    await gateway.sync(options=options)
    assert integrated == held(gateway)


def edit(clever: TinyClever, rng: Random) -> None:  # noqa: C901 - one line for each thing a district may do
    """Something a district may do."""
    users, sections = clever.objects["users"], clever.objects["sections"]
    students = [key for key, one in users.items() if "student" in one["roles"]]
    teachers = [key for key, one in users.items() if "teacher" in one["roles"]]
    fresh = f"{rng.randrange(10**6):06}"
    match rng.randrange(11):
        case 0:
            clever.put("users", make_student(f"u{fresh}", rng.choice(("s1", "s2")), race="Asian"))
        case 1 if students:
            clever.drop("users", rng.choice(students))
        case 2 if students:
            clever.amend("users", rng.choice(students), email=fresh)
        case 3 if students:
            key = rng.choice(students)
            roles = copy.deepcopy(users[key]["roles"])
            roles["student"] |= {"grade": str(rng.randrange(1, 13)), "school": rng.choice(("s1", "s2"))}
            clever.amend("users", key, roles=roles)
        case 4:
            chosen = rng.sample(students, min(len(students), rng.randrange(4)))
            clever.put("sections", make_section(f"c{fresh}", chosen, rng.sample(teachers, min(2, len(teachers)))))
        case 5 if sections:
            clever.drop("sections", rng.choice(list(sections)))
        case 6 | 7 if sections:
            chosen = rng.sample(students, min(len(students), rng.randrange(5)))
            clever.amend("sections", rng.choice(list(sections)), students=chosen, school=rng.choice(("s1", "s2")))
        case 8 if sections and teachers:
            first, *others = rng.sample(teachers, rng.randrange(1, len(teachers) + 1))
            clever.amend("sections", rng.choice(list(sections)), teacher=first, teachers=[*others, first])
        case 9 if students:
            clever.put("users", make_contact(f"w{fresh}", *rng.sample(students, min(2, len(students)))))
        case 10 if students:
            key = rng.choice(students)
            clever.drop("users", key)
            clever.put("users", make_person(key, teacher={"school": "s1"}))


async def test_changed_contacts_have_everything_compared(gateway: Any, clever: TinyClever) -> None:
    """A contact that changed may change what others' records say, so changes alone are not enough."""
    await gateway.sync(options=ALL)
    clever.put("users", make_contact("w2", "u1"))
    outcome = await sync_changes(gateway, **ALL)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_NOT_ENOUGH)
    users = {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["users"].items()}
    assert users["u1"]["agentSourcedIds"] == ["w2"]
    assert users["u0"]["agentSourcedIds"] == ["w1"]


async def test_a_changed_student_keeps_their_contacts(gateway: Any, clever: TinyClever) -> None:
    """A student's own object does not name the contacts; they are asked for."""
    await gateway.sync(options=ALL)
    clever.amend("users", "u0", email="changed")
    outcome = await sync_changes(gateway, **ALL)
    assert outcome.completed.mode == "delta"
    user = msgspec.json.decode(gateway.store.records["users"]["u0"][1])
    assert (user["email"], user["agentSourcedIds"]) == ("changed", ["w1", "w2"])


@pytest.mark.parametrize("how", ["purged", "old", "refused", "another district's bookmark"])
async def test_a_gap_in_the_events_has_everything_compared(gateway: Any, clever: TinyClever, how: str) -> None:
    """Events that Clever no longer has, or keeps from us, are no changes: everything is read, and the run says why."""
    await gateway.sync()
    clever.drop("users", "u2")
    match how:
        case "purged":
            clever.kept_from = len(clever.events)
        case "old":
            gateway.bookmark = msgspec.structs.replace(gateway.bookmark, at=gateway.bookmark.at - timedelta(days=30))
        case "refused":
            clever.answer = lambda path, _: HTMLResponse("no", 403) if path == "/v3.0/events" else None
        case _:
            gateway.bookmark = msgspec.structs.replace(gateway.bookmark, state={})
    outcome = await sync_changes(gateway)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.CLEVER_EVENTS_GAP)
    assert outcome.completed.bookmark.increments == (how != "refused")
    assert "u2" not in gateway.store.records["users"]


async def test_events_that_tell_too_little_have_everything_compared(gateway: Any, clever: TinyClever) -> None:
    """A section that was deleted without saying who was in it: changes can't be trusted, everything is read."""
    await gateway.sync()
    clever.drop("sections", "c1")
    clever.events[-1]["data"]["object"] = {"id": "c1"}
    outcome = await sync_changes(gateway)
    assert (outcome.completed.mode, outcome.completed.mode_code) == ("full", Code.DELTA_DRIFT)
    assert set(gateway.store.records["enrollments"]) == {"c2_u3_student", "c2_v2_teacher"}


async def test_an_object_that_is_not_shared_any_more_is_gone(gateway: Any, clever: TinyClever) -> None:
    """A partial object is asked for by its id, and a 404 means gone; the run goes on (P18)."""
    await gateway.sync()
    del clever.objects["users"]["u1"]
    clever.tell("users.updated", {"id": "u1"}, previous_attributes={"email": "x"})
    clever.objects["users"]["u0"]["email"] = "whole"
    clever.tell("users.updated", {"id": "u0"}, previous_attributes={"email": "x"})
    outcome = await sync_changes(gateway)
    assert outcome.completed.mode == "delta"
    assert "u1" not in gateway.store.records["users"]
    assert msgspec.json.decode(gateway.store.records["users"]["u0"][1])["email"] == "whole"


async def test_users_without_a_wanted_role_leave_with_the_changes(gateway: Any, clever: TinyClever) -> None:
    """Who becomes a contact only is gone where parents are not wanted, and contacts' events bring nobody."""
    await gateway.sync()
    clever.put("users", make_contact("u1", "u0"))
    clever.put("users", make_contact("w9", "u0"))
    await sync_changes(gateway)
    assert set(gateway.store.records["users"]) & {"u1", "w9"} == set()


async def test_a_pause_keeps_changes_waiting(gateway: Any, clever: TinyClever) -> None:
    """Events of a district that is paused are not applied."""
    await gateway.sync()
    clever.drop("users", "u1")
    clever.objects["districts"]["d1"]["state"] = "paused"
    outcome = await gateway.run(job=gateway.job(mode="delta"))
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAUSED


async def test_large_sections_and_many_events_need_little_memory(gateway: Any, clever: TinyClever) -> None:
    """A section of 5,000 students and 50,000 events are read in bounded memory, and end where they should."""
    everybody = [f"x{number:05}" for number in range(5_000)]
    clever.put("sections", make_section("c9", everybody, ["v1"]))
    await gateway.sync()
    assert len(gateway.store.records["enrollments"]) == 7 + 5_001
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for number in range(25_000):
        clever.amend("users", f"u{number % 6}", email=f"{number}@lake.example")
        clever.tell("users.updated", make_student(f"y{number}"), previous_attributes={"email": "x"})
    served_by_toy = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = await sync_changes(gateway)
    assert outcome.completed.mode == "delta"
    assert len(gateway.store.records["users"]) == 9 + 25_000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - max(before, served_by_toy)
    assert grown < 150_000, f"{grown} KiB more than before"
