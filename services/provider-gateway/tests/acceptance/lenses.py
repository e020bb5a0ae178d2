"""What a face must show of the district, and how to look at what it showed.

A roster here is what the store holds: canonical records by collection and sourcedId. A lens turns the reference, seen
through OneRoster 1.1, into what a face can carry of it, and what came through the face into the same form.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from homeroom.roster import COLLECTIONS
from sandbox_district.clever_records import clever_snapshot
from sandbox_district.curriculum import DISTRICT_ID
from sandbox_district.district import District
from sandbox_district.google_records import classroom_snapshot

Record = dict[str, Any]
Roster = dict[str, dict[str, Record]]
Picture = dict[str, Any]
Name = Callable[[str, str | None], str | None]
"""From a collection and a sourcedId of the reference to the face's id."""


@dataclass(frozen=True, slots=True)
class Lens:
    """How to compare a face with the reference; equal pictures are the same roster."""

    expect: Callable[[Roster, District], Picture]
    see: Callable[[Roster], Picture]


# ── the same records ──────────────────────────────────────────────────────────────────────────────────────────────


def as_text(value: Any) -> str:
    """A value of metadata as a file can carry it."""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def level_metadata(record: Record) -> Record:
    """A record whose metadata are texts only; files know no others, and no difference between blank and missing."""
    metadata = {name: as_text(value) for name, value in record.get("metadata", {}).items() if value not in (None, "")}
    return {name: value for name, value in record.items() if name != "metadata"} | (
        {"metadata": metadata} if metadata else {}
    )


def encode(record: Record) -> bytes:
    """The bytes two records are compared by."""
    return json.dumps(record, sort_keys=True, ensure_ascii=False).encode()


def see_exactly(roster: Roster) -> Picture:
    """Every record, byte by byte."""
    return {
        collection: {key: encode(level_metadata(record)) for key, record in records.items()}
        for collection, records in roster.items()
    }


EXACT = Lens(lambda reference, _district: see_exactly(reference), see_exactly)
"""The very same records."""


def _rename_roles(reference: Roster, district: District) -> Picture:
    """1.2 calls an administrator by where they are, and has no word for an aide in a class but an extension."""
    sites = {key for key, org in district.active("orgs").items() if org["type"] == "school"}

    def rename(role: Record) -> Record:
        if role["role"] != "administrator":
            return role
        return role | {"role": "siteAdministrator" if role["orgSourcedId"] in sites else "districtAdministrator"}

    users = {
        key: user | {"roles": [rename(role) for role in user["roles"]]} for key, user in reference["users"].items()
    }
    return see_exactly(reference | {"users": users})


def _see_renamed(roster: Roster) -> Picture:
    enrollments = {
        key: record | {"role": record["role"].removeprefix("ext:")} for key, record in roster["enrollments"].items()
    }
    return see_exactly(roster | {"enrollments": enrollments})


RENAMED = Lens(_rename_roles, _see_renamed)
"""The very same records but for the words OneRoster 1.2 has other ones for."""


# ── what Clever can carry ─────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class _Clever:
    """Clever's ids of the district's records: each object says which record it was made from."""

    names: dict[tuple[str, str], str]

    @classmethod
    def of(cls, district: District) -> _Clever:
        """Read the ids off what Clever shows."""
        names: dict[tuple[str, str], str] = {}
        shown = clever_snapshot(district)
        (names["orgs", "100"],) = shown["districts"]
        for kind, collection in (("schools", "orgs"), ("sections", "classes")):
            names |= {(collection, each["sis_id"]): key for key, each in shown[kind].items()}
        by_code = {each["courseCode"]: key for key, each in district.active("courses").items()}
        names |= {("courses", by_code[each["number"]]): key for key, each in shown["courses"].items()}
        by_title = {each["title"]: key for key, each in district.active("academicSessions").items()}
        names |= {("academicSessions", by_title[each["name"]]): key for key, each in shown["terms"].items()}
        for key, each in shown["users"].items():
            for role in each["roles"].values():
                sourced_id = role.get("sis_id") or role.get("staff_id")
                names |= {("users", sourced_id): key} if sourced_id else {}
        by_email = {each["email"]: key for key, each in district.active("users").items() if each.get("email")}
        for key, each in shown["users"].items():
            names.setdefault(("users", by_email.get(each.get("email"), "")), key)
        return cls(names)

    def name(self, collection: str, sourced_id: str | None) -> str | None:
        """The id of a record at Clever; demographics have their user's."""
        return self.names.get(("users" if collection == "demographics" else collection, sourced_id or ""))


def _list_clever_views(marks: tuple[str, ...]) -> dict[str, Callable[[Record, Name], Any]]:
    """What is compared of each collection; of demographics with these further fields."""

    def view_marks(record: Record, _name: Name) -> Any:
        races = sorted(name for name, value in record.items() if value is True and name not in _MARKS)
        return record.get("birthDate"), record.get("sex"), races, [record.get(name) for name in marks]

    return {
        "orgs": _view_org,
        "academicSessions": _view_session,
        "courses": _view_course,
        "classes": _view_class,
        "users": _view_user,
        "demographics": view_marks,
    }


def _make_clever_lens(*marks: str) -> Lens:
    views = _list_clever_views(marks)

    def expect(reference: Roster, district: District) -> Picture:
        clever = _Clever.of(district)
        picture: Picture = {collection: {} for collection in COLLECTIONS}
        for collection, view in views.items():
            for key, record in reference[collection].items():
                if name := clever.name(collection, key):
                    picture[collection][name] = view(record, clever.name)
        picture["enrollments"] = sorted(
            (
                str(clever.name("users", record["userSourcedId"])),
                str(clever.name("classes", record["classSourcedId"])),
                record["role"],
                record["role"] == "teacher" and record.get("primary") is True,
            )
            for record in reference["enrollments"].values()
            if record["role"] in {"student", "teacher"}
        )
        return picture

    def see(roster: Roster) -> Picture:
        picture: Picture = {
            collection: {key: view(record, lambda _kind, one: one) for key, record in roster[collection].items()}
            for collection, view in views.items()
        }
        picture["enrollments"] = sorted(
            (record["userSourcedId"], record["classSourcedId"], record["role"], record.get("primary") is True)
            for record in roster["enrollments"].values()
        )
        return picture

    return Lens(expect, see)


def _view_org(record: Record, name: Name) -> Any:
    return record["name"], record["type"], record.get("identifier"), name("orgs", record.get("parentSourcedId"))


def _view_session(record: Record, _name: Name) -> Any:
    return record["title"], record["startDate"], record["endDate"]


def _view_course(record: Record, _name: Name) -> Any:
    return record["title"], record.get("courseCode")


def _view_class(record: Record, name: Name) -> Any:
    """Of several grades Clever names none."""
    grades = record.get("grades", [])
    return (
        record["title"],
        record.get("classCode"),
        record.get("classType"),
        name("orgs", record["schoolSourcedId"]),
        name("courses", record.get("courseSourcedId")),
        [name("academicSessions", term) for term in record.get("termSourcedIds", ())],
        grades if len(grades) == 1 else [],
        record.get("periods", []),
    )


_MARKS = frozenset({"ellStatus", "iepStatus"})
_STAFF = frozenset({"administrator", "aide", "districtAdministrator"})
_FAMILY = frozenset({"parent", "guardian", "relative"})


def _view_user(record: Record, name: Name) -> Any:
    """Clever tells no roles of the staff apart, and of those at a school not that they are at the district, too.

    It gives families no school and nobody but students and teachers a username that is compared here.
    """
    role = record["roles"][0]["role"]
    kind = "staff" if role in _STAFF else role
    if role in _FAMILY and not record.get("agentSourcedIds"):
        kind = "family"  # what they are is told with their students only
    orgs = [one["orgSourcedId"] for one in record["roles"]]
    schools = [one for one in orgs if one != DISTRICT_ID] or orgs
    return (
        record["givenName"],
        record["familyName"],
        record.get("middleName"),
        record.get("email"),
        kind,
        None if role in _FAMILY else [name("orgs", one) for one in schools],
        record.get("phone") if role in _FAMILY else None,
        record.get("grades", []),
        sorted(str(name("users", agent)) for agent in record.get("agentSourcedIds", ())),
        record.get("username") if role in {"student", "teacher"} else None,
    )


CLEVER_3_0 = _make_clever_lens("ellStatus")
"""What Clever's objects carry, with Clever's ids."""
CLEVER_3_1 = _make_clever_lens("ellStatus", "iepStatus", "frlStatus")
"""As 3.0, and how students are supported."""


# ── what Google Classroom can carry ───────────────────────────────────────────────────────────────────────────────


def _expect_classroom(reference: Roster, district: District) -> Picture:
    """What the domain has; people of the reference are found by their e-mail address, the only thing both know."""
    room = classroom_snapshot(district)
    courses = {key: course for key, course in room.courses.items() if course["courseState"] == "ACTIVE"}
    lists = (("student", room.students), ("teacher", room.teachers))
    members = {
        (person, course, role, role == "teacher" and courses[course]["ownerId"] == person)
        for course in courses
        for role, of in lists
        for person in of[course]
    }
    people = {person for person, *_ in members}
    families = any(user["roles"][0]["role"] in _FAMILY for user in reference["users"].values())
    guardians = {
        (student, link["guardianId"]): link["guardianProfile"]
        for student, links in room.guardians.items()
        for link in links
        if student in people and families
    }
    profiles = {person: room.profiles[person] for person in people}
    profiles |= {guardian: profile for (_, guardian), profile in guardians.items()}
    agents: defaultdict[str, set[str]] = defaultdict(set)
    for student, guardian in guardians:
        agents[student].add(guardian)
        agents[guardian].add(student)
    by_section = {record["classCode"]: record for record in reference["classes"].values()}
    assert all(by_section[course["section"]]["title"] == course["name"] for course in courses.values())
    return {
        "classes": {key: (course["name"], course["section"], course["room"]) for key, course in courses.items()},
        "users": {
            key: (
                profile["name"]["givenName"],
                profile["name"]["familyName"],
                profile["emailAddress"],
                sorted({role for person, _, role, _ in members if person == key} or {"guardian"}),
                sorted(agents[key]),
            )
            for key, profile in profiles.items()
        },
        "enrollments": sorted(members),
    }


def _see_classroom(roster: Roster) -> Picture:
    return {
        "classes": {
            key: (record["title"], record.get("classCode"), record.get("location"))
            for key, record in roster["classes"].items()
        },
        "users": {
            key: (
                record["givenName"],
                record["familyName"],
                record.get("email"),
                sorted(role["role"] for role in record["roles"]),
                record.get("agentSourcedIds", []),
            )
            for key, record in roster["users"].items()
        },
        "enrollments": sorted(
            (record["userSourcedId"], record["classSourcedId"], record["role"], record.get("primary") is True)
            for record in roster["enrollments"].values()
        ),
    }


CLASSROOM = Lens(_expect_classroom, _see_classroom)
"""What Google Classroom's courses carry, with Google's ids."""
