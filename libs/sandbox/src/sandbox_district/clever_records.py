"""The district's books as Clever's objects, in the fields of Data API v3.1, and what v3.0 has of them.

An object's id begins with when it came to be, so that ids ascend in the order of creation as Clever's do, and ends
with what it was made from, so that the same district always has the same ids.

Source: Clever's Swagger documents of Data API v3.0 and v3.1.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Any, Final

from sandbox_district.births import Births
from sandbox_district.clever_words import describe_student, name_grade, name_subject, tell_graduation
from sandbox_district.curriculum import LEVELS
from sandbox_district.district import District
from sandbox_district.records import Record

KINDS: Final = ("districts", "schools", "terms", "courses", "users", "sections")
Snapshot = dict[str, dict[str, Record]]
"""Clever's objects by kind and id."""

_COLLECTIONS: Final = {
    "districts": "orgs",
    "schools": "orgs",
    "terms": "academicSessions",
    "courses": "courses",
    "users": "users",
    "sections": "classes",
}
_STAFF_SIDE: Final = frozenset({"teacher", "administrator", "aide", "proctor"})
_RELATIONSHIPS: Final = {"parent": ("Parent", "Parent/Guardian"), "guardian": ("Other", "Parent/Guardian")}
_NEW_OF_STUDENTS: Final = frozenset(
    {"frl_status", "iep_status", "section_504_status", "gifted_status", "home_language", "home_language_code"}
)
_NEW_OF_ALL: Final = frozenset({"lms_status", "lms_type", "lms_state", "last_attendance_sync"})


class Identities:
    """Ids of 24 hexadecimal digits: eight that say when, sixteen that are made from the kind and the sourcedId."""

    def __init__(self, district: District) -> None:
        self._births = Births(district)
        self._known: dict[tuple[str, str], str] = {}
        self.read_history = self._births.read_history

    def name(self, kind: str, sourced_id: str) -> str:
        """The id of what a record is at Clever; a record that was gone and is back has its old one."""
        key = (kind, sourced_id)
        if key not in self._known:
            born = self._births.tell(_COLLECTIONS[kind], sourced_id)
            self._known[key] = f"{born:08x}{_digest(kind, sourced_id)}"
        return self._known[key]


def clever_snapshot(district: District) -> Snapshot:
    """What a client of Clever v3.1 should see of a district now, by kind and id, without created and last_modified.

    A pure function of the district. Of the district object the state of its sync is left out.
    """
    identities = Identities(district)
    identities.read_history()
    return read_books(district, identities)


def name_district(district: District) -> str:
    """The district's id, which can be told without reading the books."""
    return Identities(district).name("districts", _find_owner(district.active("orgs")))


def name_users(users: dict[str, Record], identities: Identities) -> dict[str, str]:
    """Clever's id of each active user, by sourcedId; those who are one user of Clever have the same."""
    accounts = dict(_merge_accounts(users))
    return {key: identities.name("users", accounts.get(key, key)) for key in users}


def read_books(district: District, identities: Identities) -> Snapshot:
    """As `clever_snapshot`, with identities that are kept; ids ascend within each kind."""
    found = _Reader(district, identities).read()
    return {kind: {each["id"]: each for each in sorted(found[kind], key=lambda each: each["id"])} for kind in KINDS}


def show_version(version: str, record: Record) -> Record:
    """An object as a version of the API has it. 3.0 has fewer fields, and dates of birth as in MM/DD/YYYY."""
    if version != "v3.0":
        return record
    shown = {name: value for name, value in record.items() if name not in _NEW_OF_ALL}
    if student := record.get("roles", {}).get("student"):
        kept = {name: value for name, value in student.items() if name not in _NEW_OF_STUDENTS}
        year, _, day = student["dob"].partition("-")
        kept["dob"] = f"{day.replace('-', '/')}/{year}" if day else year
        shown["roles"] = record["roles"] | {"student": kept}
    return shown


class _Reader:
    """One reading of the books."""

    def __init__(self, district: District, identities: Identities) -> None:
        self._name = identities.name
        self._first_day = district.first_day.isoformat()
        self._orgs = district.active("orgs")
        self._users = district.active("users")
        self._classes = district.active("classes")
        self._courses = district.active("courses")
        self._sessions = district.active("academicSessions")
        self._enrollments = district.active("enrollments")
        self._demographics = district.active("demographics")
        self._owner = _find_owner(self._orgs)
        self._district_id = self._name("districts", self._owner)
        self._accounts = dict(_merge_accounts(self._users))
        self._years = [each for each in self._sessions.values() if each["type"] == "schoolYear"]

    def read(self) -> dict[str, list[Record]]:
        return {
            "districts": [self._read_district(self._orgs[self._owner])] if self._owner else [],
            "schools": [self._read_school(org) for org in self._orgs.values() if org["type"] == "school"],
            "terms": list(self._read_terms()),
            "courses": [self._read_course(course) for course in self._courses.values()],
            "users": list(self._read_users()),
            "sections": list(self._read_sections()),
        }

    def _read_district(self, org: Record) -> Record:
        return {
            "id": self._district_id,
            "name": org["name"],
            "nces_id": org.get("identifier", ""),
            "mdr_number": "",
            "sis_type": "powerschool",
            "launch_date": self._first_day,
            "login_methods": ["clever", "badges"],
            "portal_url": "https://portal.lakeverity.example/in/lakeverity",
            "district_contact": {
                "id": self._name("districts", f"{self._owner}/contact"),
                "district": self._district_id,
                "name": {"first": "Ines", "last": "Quillfeather"},
                "email": "it@lakeverity.example",
                "title": "Director of Technology",
            },
            "lms_type": "",
            "lms_state": "",
        }

    def _read_school(self, org: Record) -> Record:
        grades = next((level.grades for level in LEVELS if org["sourcedId"] in dict(level.schools)), ())
        heads = [user for user in self._users.values() if user["role"] == "administrator"]
        head = next((user for user in heads if _refer(user.get("orgs"))[:1] == [org["sourcedId"]]), None)
        return {
            "id": self._name("schools", org["sourcedId"]),
            "district": self._district_id,
            "name": org["name"],
            "sis_id": org["sourcedId"],
            "school_number": org["sourcedId"],
            "state_id": "",
            "nces_id": org.get("identifier", ""),
            "mdr_number": "",
            "low_grade": name_grade(grades[:1]),
            "high_grade": name_grade(grades[-1:]),
            "phone": "",
            "location": {"address": "", "city": "Lake Verity", "state": "CA", "zip": ""},
            "principal": {"name": f"{head['givenName']} {head['familyName']}", "email": head.get("email", "")}
            if head
            else {},
            "ext": org.get("metadata") or {},
        }

    def _read_terms(self) -> Iterator[Record]:
        """The sessions that classes are held in, whole years too: Clever knows no kinds of sessions."""
        used = {session for each in self._classes.values() for session in _refer(each.get("terms"))[:1]}
        for session in used & self._sessions.keys():
            record = self._sessions[session]
            yield {
                "id": self._name("terms", session),
                "district": self._district_id,
                "name": record["title"],
                "start_date": record["startDate"],
                "end_date": record["endDate"],
            }

    def _read_course(self, course: Record) -> Record:
        return {
            "id": self._name("courses", course["sourcedId"]),
            "district": self._district_id,
            "name": course["title"],
            "number": course.get("courseCode", ""),
        }

    def _read_sections(self) -> Iterator[Record]:
        students: defaultdict[str, dict[str, None]] = defaultdict(dict)
        teachers: defaultdict[str, dict[str, bool]] = defaultdict(dict)
        for enrollment in self._enrollments.values():
            user, section = (_refer(enrollment.get(field)) for field in ("user", "class"))
            if not user or not section or user[0] not in self._users:
                continue
            member = self._name_user(user[0])
            if enrollment["role"] == "student":
                students[section[0]][member] = None
            elif enrollment["role"] == "teacher":
                teachers[section[0]][member] = enrollment.get("primary") in {True, "true"}
        for key, record in self._classes.items():
            yield self._read_section(record, list(students[key]), teachers[key])

    def _read_section(self, record: Record, students: list[str], teachers: dict[str, bool]) -> Record:
        course, terms = _refer(record.get("course")), _refer(record.get("terms"))
        return {
            "id": self._name("sections", record["sourcedId"]),
            "district": self._district_id,
            "school": next((self._name("schools", key) for key in _refer(record.get("school"))), ""),
            "course": next((self._name("courses", key) for key in course if key in self._courses), None),
            "term_id": next((self._name("terms", key) for key in terms[:1] if key in self._sessions), None),
            "name": record["title"],
            "sis_id": record["sourcedId"],
            "section_number": record.get("classCode", ""),
            "period": next(iter(record.get("periods") or []), ""),
            "subject": name_subject(record.get("subjects") or []),
            "grade": name_grade(record.get("grades") or []),
            "students": students,
            "teacher": next((teacher for teacher, primary in teachers.items() if primary), None),
            "teachers": list(teachers),
            "ext": record.get("metadata") or {},
            "lms_status": {"synced_in_lms": False},
        }

    def _read_users(self) -> Iterator[Record]:
        roles: dict[str, Record] = {}
        for key, user in self._users.items():
            held = roles.setdefault(self._accounts.get(key, key), {})
            for role, content in self._read_roles(user):
                held.setdefault(role, content)
        for key, held in roles.items():
            user = self._users[key]
            name = {"first": user["givenName"], "middle": user.get("middleName"), "last": user["familyName"]}
            record = {
                "id": self._name_user(key),
                "district": self._district_id,
                "email": user.get("email"),
                "name": {part: text for part, text in name.items() if text is not None},
                "roles": held,
                "lms_status": {"synced_in_lms": False},
            }
            yield {field: value for field, value in record.items() if value is not None}

    def _read_roles(self, user: Record) -> Iterator[tuple[str, Record]]:
        match user["role"]:
            case "student":
                yield "student", self._read_student(user)
            case "teacher":
                yield "teacher", self._read_teacher(user)
            case "administrator" if not self._list_schools(user):
                yield "district_admin", {"title": "Administrator", "legacy_id": _make_legacy_id(user)}
            case "administrator" | "aide" | "proctor" as role:
                yield "staff", self._read_staff(user, role.title())
            case role:
                yield "contact", self._read_contact(user, role)

    def _read_student(self, user: Record) -> Record:
        schools = self._list_schools(user)
        year = self._years[0] if self._years else {"startDate": "", "endDate": "", "schoolYear": ""}
        grade = name_grade(user.get("grades") or [])
        states = [each["identifier"] for each in user.get("userIds") or [] if each.get("type") == "State"]
        return {
            "school": next(iter(schools), ""),
            "schools": schools,
            "sis_id": user["sourcedId"],
            "state_id": next(iter(states), ""),
            "student_number": user.get("identifier", ""),
            "grade": grade,
            "graduation_year": tell_graduation(grade, year["schoolYear"]),
            **describe_student(self._demographics.get(user["sourcedId"])),
            "section_504_status": "",
            "gifted_status": "",
            "home_language": "",
            "home_language_code": "",
            "location": {"address": "", "city": "", "state": "", "zip": "", "lat": "", "lon": ""},
            "credentials": {"district_username": user.get("username", "")},
            "enrollments": [
                {"school": school, "start_date": year["startDate"], "end_date": year["endDate"]} for school in schools
            ],
            "ext": user.get("metadata") or {},
            "legacy_id": _make_legacy_id(user),
        }

    def _read_teacher(self, user: Record) -> Record:
        schools = self._list_schools(user)
        return {
            "school": next(iter(schools), ""),
            "schools": schools,
            "sis_id": user["sourcedId"],
            "teacher_number": user.get("identifier", ""),
            "state_id": "",
            "title": "",
            "credentials": {"district_username": user.get("username", "")},
            "ext": user.get("metadata") or {},
            "legacy_id": _make_legacy_id(user),
        }

    def _read_staff(self, user: Record, title: str) -> Record:
        return {
            "staff_id": user["sourcedId"],
            "department": "",
            "title": title,
            "roles": [title],
            "schools": self._list_schools(user),
            "credentials": {"district_username": user.get("username", "")},
            "ext": user.get("metadata") or {},
            "legacy_id": _make_legacy_id(user),
        }

    def _read_contact(self, user: Record, role: str) -> Record:
        relationship, kind = _RELATIONSHIPS.get(role, ("Other", "Family"))
        phone, cell = user.get("phone") or "", user.get("sms") or ""
        return {
            "sis_id": user["sourcedId"],
            "phone": phone or cell,
            "phone_type": "Home" if phone else "Cell" if cell else "",
            "student_relationships": [
                {"student": self._name_user(agent), "relationship": relationship, "type": kind}
                for agent in _refer(user.get("agents"))
                if agent in self._users and self._users[agent]["role"] == "student"
            ],
            "legacy_id": _make_legacy_id(user),
        }

    def _name_user(self, sourced_id: str) -> str:
        return self._name("users", self._accounts.get(sourced_id, sourced_id))

    def _list_schools(self, user: Record) -> list[str]:
        orgs = [key for key in _refer(user.get("orgs")) if key in self._orgs]
        return [self._name("schools", key) for key in orgs if self._orgs[key]["type"] == "school"]


def _find_owner(orgs: dict[str, Record]) -> str:
    return next((key for key, org in orgs.items() if org["type"] == "district"), "")


def _merge_accounts(users: dict[str, Record]) -> Iterator[tuple[str, str]]:
    """People of the staff with the same e-mail address are one user of Clever; students and contacts never are."""
    first: dict[str, str] = {}
    for key, user in users.items():
        email = (user.get("email") or "").lower()
        if email and user["role"] in _STAFF_SIDE:
            owner = first.setdefault(email, key)
            if owner != key:
                yield key, owner


def _refer(value: Any) -> list[str]:
    """The sourcedIds that a reference or a list of them names."""
    found: Iterable[Any] = value if isinstance(value, list) else [value]
    return [ref["sourcedId"] for ref in found if ref]


def _make_legacy_id(user: Record) -> str:
    return _digest("legacy", user["sourcedId"]) + "00000000"


def _digest(kind: str, sourced_id: str) -> str:
    return blake2b(f"{kind}/{sourced_id}".encode(), digest_size=8).hexdigest()
