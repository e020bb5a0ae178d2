"""Days that go by: what happens at a district from one night to the next, and the exact truth about it."""

from collections.abc import Callable

import msgspec

from sandbox_district.curriculum import DISTRICT_ID
from sandbox_district.people import draw_name, draw_phone
from sandbox_district.records import COLLECTIONS, Books, Record, format_instant
from sandbox_district.registrar import Registrar

Snapshot = dict[str, dict[str, bytes]]


class Difference(msgspec.Struct, frozen=True):
    """The sourcedIds of one collection that came, changed and went."""

    added: frozenset[str] = frozenset()
    changed: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


class Changes(msgspec.Struct, frozen=True):
    """What truly changed, collection by collection, and the day it happened."""

    day: int
    collections: dict[str, Difference]

    def __getitem__(self, collection: str) -> Difference:
        return self.collections[collection]

    def counts(self) -> dict[str, dict[str, int]]:
        """How many were added, changed and removed, by collection."""
        return {
            name: {"added": len(of.added), "changed": len(of.changed), "removed": len(of.removed)}
            for name, of in self.collections.items()
        }


def snapshot(books: Books) -> Snapshot:
    """Every record as it stands, tombstones too, leaving out when it was last modified."""
    return {name: {key: _content(record) for key, record in books.collections[name].items()} for name in COLLECTIONS}


def record_changes(books: Books, edit: Callable[[], object]) -> tuple[Changes, dict[str, set[str]]]:
    """Let something happen; return what changed among the active records, and what needs a new dateLastModified."""
    before, active_before = snapshot(books), books.truth()
    edit()
    after, active_after = snapshot(books), books.truth()
    differences = {}
    touched = {}
    for name in COLLECTIONS:
        old, new = active_before[name], active_after[name]
        differences[name] = Difference(
            added=frozenset(new - old),
            changed=frozenset(key for key in new & old if before[name][key] != after[name][key]),
            removed=frozenset(old - new),
        )
        touched[name] = {key for key, content in after[name].items() if before[name].get(key) != content}
        _remember_departed(books, name, before[name], differences[name])
    return Changes(books.day, differences), touched


def pass_day(registrar: Registrar) -> None:
    """One ordinary day: people come, go, move, marry; a section opens; a school is renamed once in a while."""
    for happening in (
        _admit_students,
        _drop_classes,
        _move_between_sections,
        _rename_people,
        _lose_students,
        _open_section,
        _update_contacts,
        _touch_the_rest,
    ):
        happening(registrar)


def _remember_departed(books: Books, collection: str, before: dict[str, bytes], of: Difference) -> None:
    """Keep what those who vanished were last like, and which orgs people left: a file of changes has to name them."""
    departed = books.departed[collection]
    for key in of.added:
        departed.pop(key, None)
    gone = {"status": "tobedeleted", "dateLastModified": format_instant(books.read_clock())}
    for key in of.removed - books.collections[collection].keys():
        departed[key] = msgspec.json.decode(before[key]) | gone
    if collection == "users":
        for key in of.changed:
            now = {ref["sourcedId"] for ref in books.collections[collection][key]["orgs"]}
            had = {ref["sourcedId"] for ref in msgspec.json.decode(before[key])["orgs"]}
            books.left_orgs[key] = (books.left_orgs.get(key, set()) | had) - now


def _content(record: Record) -> bytes:
    return msgspec.json.encode({name: value for name, value in record.items() if name != "dateLastModified"})


def _students(registrar: Registrar) -> list[str]:
    users = registrar.books.active("users").items()
    return [sourced_id for sourced_id, user in users if user["role"] == "student"]


def _draw(registrar: Registrar, choices: list[str], count: int) -> list[str]:
    return registrar.rng.sample(choices, min(count, len(choices)))


def _admit_students(registrar: Registrar) -> None:
    for _ in range(registrar.rng.randrange(3, 7)):
        registrar.admit_student(registrar.rng.choice(("KG", "02", "05", "07", "09", "11")))


def _drop_classes(registrar: Registrar) -> None:
    enrollments = registrar.books.active("enrollments").items()
    of_students = [sourced_id for sourced_id, record in enrollments if record["role"] == "student"]
    for number, enrollment in enumerate(_draw(registrar, of_students, 8)):
        registrar.withdraw(enrollment, tombstone=number % 2 == 0)


def _move_between_sections(registrar: Registrar) -> None:
    enrollments = registrar.books.active("enrollments")
    classes = registrar.books.collections["classes"]
    left_to_move = 5
    for key in _draw(registrar, [key for key, record in enrollments.items() if record["role"] == "student"], 100):
        record = enrollments[key]
        section = classes[record["class"]["sourcedId"]]
        seat = (section["school"]["sourcedId"], section["course"]["sourcedId"], "-".join(section["grades"]))
        others = [other for other in registrar.sections[seat] if other != section["sourcedId"]]
        if others and left_to_move:
            registrar.withdraw(key, tombstone=False)
            registrar.enroll(record["user"]["sourcedId"], registrar.rng.choice(others))
            left_to_move -= 1


def _rename_people(registrar: Registrar) -> None:
    users = registrar.books.active("users")
    (teacher,) = _draw(registrar, [key for key, user in users.items() if user["role"] == "teacher"], 1)
    married = f"{users[teacher]['familyName'].split('-')[0]}-{draw_name(registrar.rng).family}"
    registrar.books.amend("users", teacher, familyName=married)
    for student in _draw(registrar, _students(registrar), 2):
        registrar.books.amend("users", student, givenName=f"{draw_name(registrar.rng).given} {registrar.books.day}")


def _lose_students(registrar: Registrar) -> None:
    for number, student in enumerate(_draw(registrar, _students(registrar), 3)):
        registrar.dismiss(student, tombstone=number == 0)


def _open_section(registrar: Registrar) -> None:
    fullest = max(registrar.books.active("classes"), key=lambda key: (registrar.rolls[key], key), default=None)
    if fullest is None:
        return
    section = registrar.books.collections["classes"][fullest]
    course = registrar.courses[section["course"]["sourcedId"]]
    opened = registrar.open_section(section["school"]["sourcedId"], course, tuple(section["grades"]))
    enrollments = registrar.books.active("enrollments").items()
    pupils = [
        (key, record["user"]["sourcedId"])
        for key, record in enrollments
        if record["class"]["sourcedId"] == fullest and record["role"] == "student"
    ]
    for enrollment, student in pupils[: len(pupils) // 3]:
        registrar.withdraw(enrollment, tombstone=False)
        registrar.enroll(student, opened)


def _update_contacts(registrar: Registrar) -> None:
    users = registrar.books.active("users")
    families = [key for key, user in users.items() if user["role"] in {"parent", "guardian"}]
    for person in _draw(registrar, families, 3):
        registrar.books.amend("users", person, phone=f"{draw_phone(registrar.rng)} x{registrar.books.day}")


def _touch_the_rest(registrar: Registrar) -> None:
    books = registrar.books
    for section in _draw(registrar, list(books.active("classes")), 2):
        books.amend("classes", section, location=f"Annex {books.day}")
    for enrollment in _draw(registrar, list(books.active("enrollments")), 2):
        registrar.shift_dates(enrollment, -books.day, 90)
    for student in _draw(registrar, list(books.active("demographics")), 2):
        books.amend("demographics", student, cityOfBirth=f"Port Amity {books.day}")
    if books.day % 3 == 0:
        books.amend("orgs", "104", name=f"O'Harrow Academy of Arts & Sciences ({books.day})")
        books.amend("academicSessions", "t2", title=f"Trimester 2 ({books.day})")
        books.amend(
            "courses", registrar.rng.choice(list(books.active("courses"))), subjects=["Renewed", str(books.day)]
        )
    if books.day % 5 == 0:
        books.amend("orgs", DISTRICT_ID, metadata={"vendor.region": "north", "vendor.audit": books.day})
