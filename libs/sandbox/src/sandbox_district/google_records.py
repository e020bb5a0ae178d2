"""The district's secondary schools in Google Classroom: courses, people and guardians, with Google's ids.

Classroom knows no schools, grades or sourcedIds: what joins it to the books is the e-mail address alone.
Source: Google's reference of the Classroom API.
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Final

from sandbox_district.births import Births
from sandbox_district.curriculum import HIGH, MIDDLE
from sandbox_district.district import District
from sandbox_district.people import DOMAIN
from sandbox_district.records import Record, format_instant

_SCHOOLS: Final = frozenset(school for level in (MIDDLE, HIGH) for school, _ in level.schools)
_ARCHIVED_EACH: Final = 25
_VISITED_EACH: Final = 7
_ROBOT: Final = (f"classroom.robot@{DOMAIN}", {"givenName": "Classroom", "familyName": "Robot"})
_VISITOR: Final = (f"visitor@students.{DOMAIN}", {"givenName": "Exchange", "familyName": "Visitor"})
_FAMILY: Final = frozenset({"parent", "guardian", "relative"})


@dataclass(slots=True)
class Classroom:
    """Everything a domain's administrator sees, in the order it is listed: the newest course first."""

    courses: dict[str, Record] = field(default_factory=dict)
    students: dict[str, dict[str, Record]] = field(default_factory=dict)
    """The profiles of each course's students by their ids."""
    teachers: dict[str, dict[str, Record]] = field(default_factory=dict)
    profiles: dict[str, Record] = field(default_factory=dict)
    """Everybody who has an account, with e-mail address."""
    guardians: dict[str, list[Record]] = field(default_factory=dict)
    """The guardians of each student."""


def classroom_snapshot(district: District) -> Classroom:
    """What a client of Google Classroom should see of a district now, a pure function of it.

    An account is its e-mail address. A student without one in the SIS has one here that the SIS does not know. People
    who share an address share the account; so do the first two teachers of the high school, by a colleague's address.
    One student and one teacher have no counterpart in the SIS.
    """
    return _Reader(district).read()


class _Reader:
    """One reading of the books."""

    def __init__(self, district: District) -> None:
        self._district = district
        self._users = district.active("users")
        self._births = Births(district)
        self._births.read_history()
        self._room = Classroom()
        self._emails: dict[str, str] = {}
        teachers = [key for key, user in self._users.items() if user["role"] == "teacher" and self._works_at_high(user)]
        self._borrowed = {teachers[1]: teachers[0]} if len(teachers) > 1 else {}

    def read(self) -> Classroom:
        members: defaultdict[str, list[Record]] = defaultdict(list)
        for enrollment in self._district.active("enrollments").values():
            members[enrollment["class"]["sourcedId"]].append(enrollment)
        sections = self._district.active("classes").values()
        for section in sections:
            if section["school"]["sourcedId"] in _SCHOOLS:
                self._add_course(section, members[section["sourcedId"]])
        for guardians in self._room.guardians.values():
            guardians.sort(key=lambda each: str(each["guardianId"]))
        self._room.guardians = dict(sorted(self._room.guardians.items()))
        self._room.courses = dict(sorted(self._room.courses.items(), key=lambda item: _by_age(item[1]), reverse=True))
        return self._room

    def _add_course(self, section: Record, members: list[Record]) -> None:
        key = _number("course", section["sourcedId"], 12)
        students: dict[str, Record] = {}
        teachers: dict[str, Record] = {}
        owner = ""
        for enrollment in sorted(members, key=lambda each: not each.get("primary")):
            user = self._users.get(enrollment["user"]["sourcedId"])
            if user and enrollment["role"] in {"student", "teacher"}:
                profile = self._find_account(user)
                (students if enrollment["role"] == "student" else teachers)[profile["id"]] = profile
                owner = owner or (profile["id"] if enrollment["role"] == "teacher" else "")
        if int(key) % _VISITED_EACH == 0:
            for (email, extra), group in ((_ROBOT, teachers), (_VISITOR, students)):
                profile = self._open_account(email, extra)
                group[profile["id"]] = profile
        born = datetime.fromtimestamp(self._births.tell("classes", section["sourcedId"]), UTC)
        self._room.courses[key] = {
            "id": key,
            "name": section["title"],
            "section": section.get("classCode", ""),
            "descriptionHeading": section["title"],
            "room": section.get("location", ""),
            "ownerId": owner or next(iter(teachers), ""),
            "creationTime": format_instant(born),
            "updateTime": section["dateLastModified"],
            "enrollmentCode": _number("code", section["sourcedId"], 7),
            "courseState": "ARCHIVED" if int(key) % _ARCHIVED_EACH == 0 else "ACTIVE",
            "alternateLink": f"https://classroom.example/c/{key}",
        }
        self._room.students[key] = dict(sorted(students.items()))
        self._room.teachers[key] = dict(sorted(teachers.items()))

    def _find_account(self, user: Record) -> Record:
        key = str(user["sourcedId"])
        if key not in self._emails:
            holder = self._users[self._borrowed.get(key, key)]
            email: str = holder.get("email") or f"{holder['username']}@{DOMAIN}"
            self._emails[key] = email
            profile = self._open_account(email, holder)
            if user["role"] == "student":
                self._room.guardians.setdefault(profile["id"], []).extend(self._list_guardians(user, profile["id"]))
        return self._open_account(self._emails[key], user)

    def _open_account(self, email: str, person: Record) -> Record:
        key = _number("person", email.lower(), 21)
        return self._room.profiles.setdefault(key, _write_profile(key, email, person))

    def _list_guardians(self, student: Record, student_id: str) -> Iterator[Record]:
        agents = [self._users.get(agent["sourcedId"]) for agent in student.get("agents") or []]
        for person in agents:
            if person and person["role"] in _FAMILY and person.get("email"):
                key = _number("person", person["email"].lower(), 21)
                yield {
                    "studentId": student_id,
                    "guardianId": key,
                    "guardianProfile": _write_profile(key, person["email"], person),
                    "invitedEmailAddress": person["email"],
                }

    def _works_at_high(self, user: Record) -> bool:
        return any(ref["sourcedId"] == HIGH.schools[0][0] for ref in user.get("orgs") or [])


def _write_profile(key: str, email: str, person: Record) -> Record:
    given, family = person["givenName"], person["familyName"]
    return {
        "id": key,
        "name": {"givenName": given, "familyName": family, "fullName": f"{given} {family}"},
        "emailAddress": email,
        "photoUrl": f"//photos.example/{key}",
    }


def _by_age(course: Record) -> tuple[str, str]:
    return course["creationTime"], course["id"]


def _number(kind: str, text: str, digits: int) -> str:
    """A number of some digits, the same for the same text."""
    value = int.from_bytes(blake2b(f"{kind}/{text}".encode(), digest_size=16).digest(), "big")
    return str(10 ** (digits - 1) + value % (9 * 10 ** (digits - 1)))
