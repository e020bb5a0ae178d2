"""What a OneRoster provider's paths serve: whole collections, parts of them, and what belongs to one record."""

from collections.abc import Callable
from typing import Final, NamedTuple

from sandbox_district.district import District
from sandbox_district.records import Record

Belongs = Callable[[Record], bool]


class Resource(NamedTuple):
    """What a path serves: a collection, or the part of it whose field has one of some values."""

    collection: str
    single: str
    field: str = ""
    values: tuple[str, ...] = ()

    def select(self, records: dict[str, Record]) -> dict[str, Record]:
        """The records of the collection that this path serves."""
        if not self.field:
            return records
        return {key: record for key, record in records.items() if record[self.field] in self.values}


RESOURCES: Final = {
    "orgs": Resource("orgs", "org"),
    "schools": Resource("orgs", "org", "type", ("school",)),
    "academicSessions": Resource("academicSessions", "academicSession"),
    "terms": Resource("academicSessions", "academicSession", "type", ("term", "semester")),
    "gradingPeriods": Resource("academicSessions", "academicSession", "type", ("gradingPeriod",)),
    "courses": Resource("courses", "course"),
    "classes": Resource("classes", "class"),
    "users": Resource("users", "user"),
    "students": Resource("users", "user", "role", ("student",)),
    "teachers": Resource("users", "user", "role", ("teacher",)),
    "enrollments": Resource("enrollments", "enrollment"),
    "demographics": Resource("demographics", "demographics"),
}


def find_nested(district: District, parent: str, sourced_id: str, name: str) -> dict[str, Record] | None:
    """The records at `/{parent}/{sourced_id}/{name}`; None if there is no such path, or no such parent."""
    relation = _RELATIONS.get((parent, name))
    above = RESOURCES.get(parent)
    if relation is None or above is None:
        return None
    if sourced_id not in above.select(district.collections[above.collection]):
        return None
    belongs = relation(district, sourced_id)
    # The terms of a school are whatever its classes say, a whole year too; elsewhere the last name of the path decides.
    resource = Resource("academicSessions", "") if name == "terms" else RESOURCES[name]
    records = resource.select(district.collections[resource.collection])
    return {key: record for key, record in records.items() if belongs(record)}


def find_of_class(district: District, school: str, section: str, name: str) -> dict[str, Record] | None:
    """The records at `/schools/{school}/classes/{section}/{name}`; None if there is no such path, or no such class."""
    found = district.collections["classes"].get(section)
    if found is None or found["school"]["sourcedId"] != school:
        return None
    if name == "enrollments":
        belongs = _refers("class")(district, section)
        return {key: one for key, one in district.collections["enrollments"].items() if belongs(one)}
    return find_nested(district, "classes", section, name) if name in ("students", "teachers") else None


def _refers(field: str) -> Callable[[District, str], Belongs]:
    """Records whose field refers to the parent, alone or in a list."""

    def relate(_district: District, sourced_id: str) -> Belongs:
        def belongs(record: Record) -> bool:
            value = record.get(field)
            found = value if isinstance(value, list) else [value]
            return any(ref is not None and ref["sourcedId"] == sourced_id for ref in found)

        return belongs

    return relate


def _is_used_at_school(field: str) -> Callable[[District, str], Belongs]:
    """Courses or sessions that classes of a school are for."""

    def relate(district: District, school: str) -> Belongs:
        used = set()
        for section in district.collections["classes"].values():
            if section["school"]["sourcedId"] == school:
                value = section[field]
                used |= {ref["sourcedId"] for ref in (value if isinstance(value, list) else [value])}
        return lambda record: record["sourcedId"] in used

    return relate


def _is_enrolled(role: str) -> Callable[[District, str], Belongs]:
    """People who are in a class."""

    def relate(district: District, section: str) -> Belongs:
        members = {
            record["user"]["sourcedId"]
            for record in district.collections["enrollments"].values()
            if record["class"]["sourcedId"] == section and record["role"] == role
        }
        return lambda record: record["sourcedId"] in members

    return relate


def _has_member(district: District, user: str) -> Belongs:
    """Classes that a person is in."""
    sections = {
        record["class"]["sourcedId"]
        for record in district.collections["enrollments"].values()
        if record["user"]["sourcedId"] == user
    }
    return lambda record: record["sourcedId"] in sections


_RELATIONS: Final[dict[tuple[str, str], Callable[[District, str], Belongs]]] = {
    ("schools", "courses"): _is_used_at_school("course"),
    ("schools", "classes"): _refers("school"),
    ("schools", "enrollments"): _refers("school"),
    ("schools", "students"): _refers("orgs"),
    ("schools", "teachers"): _refers("orgs"),
    ("schools", "terms"): _is_used_at_school("terms"),
    ("classes", "students"): _is_enrolled("student"),
    ("classes", "teachers"): _is_enrolled("teacher"),
    ("courses", "classes"): _refers("course"),
    ("students", "classes"): _has_member,
    ("teachers", "classes"): _has_member,
    ("users", "classes"): _has_member,
    ("terms", "classes"): _refers("terms"),
    ("terms", "gradingPeriods"): _refers("parent"),
}
"""The nested paths of OneRoster 1.1 and 1.2 that have one parent, but those for resources."""
