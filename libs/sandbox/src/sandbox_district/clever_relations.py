"""What belongs to one of Clever's objects: the paths `/{kind}/{id}/{relation}`.

Source: Clever's Swagger documents of Data API v3.0 and v3.1.
"""

from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from sandbox_district.clever_records import Snapshot
from sandbox_district.records import Record

SINGULAR: Final = {"district": "districts", "school": "schools", "course": "courses", "term": "terms"}


class Relation(NamedTuple):
    """What a path below an object answers: objects of a kind, one of them or a list."""

    kind: str
    single: bool
    rows: list[Record]


def find_relation(objects: Snapshot, kind: str, found: Record, name: str, *, primary: bool) -> Relation | None:
    """What belongs to an object; None if there is no such path.

    Args:
        objects: everything there is.
        kind: what the object is.
        found: the object.
        name: the last part of the path.
        primary: only those whose primary school it is, and of a person only the primary school.
    """
    if name == "resources" and kind in {"courses", "sections", "users"}:
        return Relation("resources", single=False, rows=[])
    if name == "district" and kind != "districts":
        return Relation("districts", single=True, rows=list(objects["districts"].values()))
    if kind == "sections" and name in SINGULAR:
        key = found["term_id" if name == "term" else name]
        return Relation(SINGULAR[name], single=True, rows=[objects[SINGULAR[name]][key]] if key else [])
    finder = _FINDERS.get((kind, name))
    if finder is None:
        return None
    target, find = finder
    wanted = set(find(objects, found, primary))
    return Relation(target, single=False, rows=[each for key, each in objects[target].items() if key in wanted])


def list_schools(user: Record, *, primary: bool = False) -> set[str]:
    """The schools of a person in any role; only those that are the role's primary one if wished."""
    roles = user["roles"].values()
    if primary:
        return {role["school"] for role in roles if role.get("school")}
    return {school for role in roles for school in role.get("schools", ())}


Finder = Callable[[Snapshot, Record, bool], Iterable[str]]


def _sections_with(field: str) -> Finder:
    """Sections that name an object in a field."""
    return lambda objects, found, _: [key for key, each in objects["sections"].items() if each[field] == found["id"]]


def _through_sections(field: str, target: str) -> Finder:
    """What the sections that name an object in a field name in another one."""
    return lambda objects, found, _: [
        each[target] for each in objects["sections"].values() if each[field] == found["id"] and each[target]
    ]


def _users_of_school(objects: Snapshot, school: Record, primary: bool) -> Iterable[str]:
    return [key for key, user in objects["users"].items() if school["id"] in list_schools(user, primary=primary)]


def _sections_of_user(objects: Snapshot, user: Record, _primary: bool = False) -> list[str]:
    sections = objects["sections"].items()
    return [key for key, each in sections if user["id"] in each["students"] or user["id"] in each["teachers"]]


def _students_of_user(objects: Snapshot, user: Record, _primary: bool) -> set[str]:
    contact = user["roles"].get("contact", {})
    own = {relationship["student"] for relationship in contact.get("student_relationships", ())}
    taught = [each for each in objects["sections"].values() if user["id"] in each["teachers"]]
    return own.union(*(each["students"] for each in taught))


def _teachers_of_user(objects: Snapshot, user: Record, _primary: bool) -> set[str]:
    attended = [each for each in objects["sections"].values() if user["id"] in each["students"]]
    return {teacher for each in attended for teacher in each["teachers"]}


def _contacts_of_user(objects: Snapshot, student: Record, _primary: bool) -> Iterable[str]:
    for key, user in objects["users"].items():
        relationships = user["roles"].get("contact", {}).get("student_relationships", ())
        if any(relationship["student"] == student["id"] for relationship in relationships):
            yield key


_FINDERS: Final[dict[tuple[str, str], tuple[str, Finder]]] = {
    ("schools", "courses"): ("courses", _through_sections("school", "course")),
    ("schools", "sections"): ("sections", _sections_with("school")),
    ("schools", "terms"): ("terms", _through_sections("school", "term_id")),
    ("schools", "users"): ("users", _users_of_school),
    ("sections", "users"): ("users", lambda _objects, section, _: [*section["students"], *section["teachers"]]),
    ("courses", "schools"): ("schools", _through_sections("course", "school")),
    ("courses", "sections"): ("sections", _sections_with("course")),
    ("terms", "schools"): ("schools", _through_sections("term_id", "school")),
    ("terms", "sections"): ("sections", _sections_with("term_id")),
    ("users", "mycontacts"): ("users", _contacts_of_user),
    ("users", "mystudents"): ("users", _students_of_user),
    ("users", "myteachers"): ("users", _teachers_of_user),
    ("users", "schools"): ("schools", lambda _objects, user, primary: list_schools(user, primary=primary)),
    ("users", "sections"): ("sections", _sections_of_user),
}
