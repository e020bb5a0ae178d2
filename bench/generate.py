"""Districts of any size, made in seconds, for measuring.

Each record is rendered once. A collection is one buffer of JSON records with a comma after each, and an array that says
where each begins, so that a page of any length is a slice. The shape is that of a large district: 10.5 records to a
student, of which 8.5 are enrollments of that student; sections have up to 20 students and 1.1 teachers.
"""

from collections.abc import Iterable
from datetime import date, timedelta
from itertools import chain, islice
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

COLLECTIONS: Final = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments", "demographics")
Counts = dict[str, dict[str, int]]
Numbers = NDArray[np.int64]

_SCHOOL_SIZE = 700
_SECTION_SIZE = 20
_SLOTS = 9  # classes of a student; every second student has none in the last
_COURSES = 60
_CO_TEACHER_EVERY = 10
_TEACHING_LOAD = 6
_BATCH = 50_000
_NOBODY = -1
_LAST_DAY = date(2027, 6, 1)
_GRADES = ("KG", "01", "02", "03", "04", "05", "06", "07", "08", "09", "10", "11", "12")
_GIVEN = (
    "Ada",
    "Björn",
    "Caleb",
    "Delia",
    "Élodie",
    "Fern",
    "Gideon",
    "Hazel",
    "Inês",
    "José",
    "Keira",
    "Łucja",
    "小雨",
)
_FAMILY = (
    "Ashdown",
    "Birchall",
    "Çelik",
    "Dvořáček",
    "Elmsworth",
    "Müller-Weiß",
    "Nuñez",
    "O'Harrow",
    "Pemberley",
    "欧阳",
)


class Shelf:
    """A collection, rendered.

    A record's number is part of its sourcedId and grows from one record to the next, so that records always stand in
    the order of their sourcedIds. Its owner is the number of the student it is of, if any.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.next_number = 1
        self.numbers: Numbers = np.empty(0, np.int64)
        self.owners: Numbers = np.empty(0, np.int64)
        self._buffer = b""
        self._starts: Numbers = np.zeros(1, np.int64)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def size(self) -> int:
        """How many bytes the records take."""
        return len(self._buffer)

    def page(self, offset: int, limit: int) -> memoryview:
        """The records from an offset on, with commas between them; not copied."""
        first, last = min(offset, len(self)), min(offset + limit, len(self))
        end = int(self._starts[last]) - (last > first)
        return memoryview(self._buffer)[int(self._starts[first]) : end]

    def find(self, sourced_id: str) -> memoryview | None:
        """The record of a sourcedId, if it is here."""
        digits = sourced_id.removeprefix(self.prefix)
        if not digits.isdecimal() or _name(self.prefix, int(digits)) != sourced_id:
            return None
        index = int(np.searchsorted(self.numbers, int(digits)))
        return self.page(index, 1) if index < len(self) and self.numbers[index] == int(digits) else None

    def add(self, records: Iterable[str], owners: Numbers | None = None) -> None:
        """Put new records at the end; the first has the number next_number, and each one more."""
        chunks, lengths = [self._buffer], [np.diff(self._starts)]
        upcoming = iter(records)
        while rendered := [record.encode() for record in islice(upcoming, _BATCH)]:
            lengths.append(np.fromiter(map(len, rendered), np.int64, len(rendered)) + 1)
            chunks += (b",".join(rendered), b",")
        self._buffer = b"".join(chunks)
        self._starts = _accumulate(np.concatenate(lengths))
        count = len(self._starts) - 1 - len(self)
        self.numbers = np.concatenate((self.numbers, np.arange(self.next_number, self.next_number + count)))
        self.owners = np.concatenate((self.owners, np.full(count, _NOBODY) if owners is None else owners))
        self.next_number += count

    def rewrite(self, replaced: dict[int, bytes], removed: set[int]) -> None:
        """Replace and remove records by index."""
        lengths = np.diff(self._starts)
        buffer = memoryview(self._buffer)
        pieces: list[bytes | memoryview] = []
        kept_from = 0
        for index in sorted(replaced.keys() | removed):
            pieces.append(buffer[kept_from : int(self._starts[index])])
            kept_from = int(self._starts[index + 1])
            if index in replaced:
                pieces += [replaced[index], b","]
                lengths[index] = len(replaced[index]) + 1
        self._buffer = b"".join([*pieces, buffer[kept_from:]])
        gone = list(removed)
        self._starts = _accumulate(np.delete(lengths, gone))
        self.numbers, self.owners = np.delete(self.numbers, gone), np.delete(self.owners, gone)


class LargeDistrict:
    """A made-up district of so many students, at least one; the same whenever it is made."""

    def __init__(self, students: int) -> None:
        self._day = 0
        self._schools = max(1, round(students / _SCHOOL_SIZE))
        self._sections = -(-students // (self._schools * _SECTION_SIZE))
        self._teachers = -(-self._schools * _SLOTS * self._sections // _TEACHING_LOAD)
        self.shelves = {
            "orgs": Shelf("o"),
            "academicSessions": Shelf("a"),
            "courses": Shelf("c"),
            "classes": Shelf("k"),
            "users": Shelf("u"),
            "enrollments": Shelf("e"),
            "demographics": Shelf("u"),
        }
        self._write_frame()
        self._write_classes()
        self._admit(np.arange(students) % self._schools, np.arange(students) // self._schools)

    def __len__(self) -> int:
        return sum(map(len, self.shelves.values()))

    def counts(self) -> dict[str, int]:
        """How many records there are, by collection."""
        return {collection: len(shelf) for collection, shelf in self.shelves.items()}

    def one_percent_day(self, seed: int) -> Counts:
        """Change one record in a hundred: half of them amended, a quarter gone, a quarter new.

        Students come and go with their enrollments, so that no reference is left dangling.

        Returns:
            The true numbers of added, changed and removed records, by collection.
        """
        rng = np.random.default_rng(seed)
        self._day += 1
        total = len(self)
        movers = max(1, round(total / 400 / (_SLOTS + 0.5)))
        students = self.shelves["users"].owners
        leavers = rng.choice(students[students != _NOBODY], movers, replace=False)
        counts = {}
        for collection, shelf in self.shelves.items():
            gone = set(np.flatnonzero(np.isin(shelf.owners, leavers)).tolist())
            share = len(shelf) // 200
            candidates = rng.choice(len(shelf), min(share + len(gone), len(shelf)), replace=False).tolist()
            amended = [index for index in candidates if index not in gone][:share]
            shelf.rewrite({index: self._amend(shelf.page(index, 1)) for index in amended}, gone)
            counts[collection] = {"added": -len(shelf), "changed": len(amended), "removed": len(gone)}
        self._admit(rng.integers(self._schools, size=movers), rng.integers(self._sections, size=movers))
        for collection, shelf in self.shelves.items():
            counts[collection]["added"] += len(shelf)
        return counts

    def _amend(self, record: memoryview) -> bytes:
        """A record with another end, name or title, and a new date."""
        fields: dict[str, Any] = msgspec.json.decode(record)
        fields["dateLastModified"] = f"2026-09-{1 + self._day % 30:02}T05:00:00.000Z"
        if "endDate" in fields:
            fields["endDate"] = (_LAST_DAY + timedelta(days=self._day)).isoformat()
        else:
            field = next(field for field in ("familyName", "title", "name") if field in fields)
            fields[field] = f"{fields[field].partition(' / ')[0]} / {self._day}"
        return msgspec.json.encode(fields)

    def _write_frame(self) -> None:
        """Organizations, sessions and courses."""
        district, year = _refer("org", "o", 1), _refer("academicSession", "a", 1)
        self.shelves["orgs"].add(
            chain(
                [f'{_head("o", 1)}"name":"Wide Plains Unified District","type":"district","identifier":"0699998"}}'],
                (
                    f'{_head("o", 2 + school)}"name":"School {1 + school}","type":"school",'
                    f'"identifier":"{school:06}","parent":{district}}}'
                    for school in range(self._schools)
                ),
            )
        )
        self.shelves["academicSessions"].add(
            f'{_head("a", number)}"title":"{title}","type":"{kind}","startDate":"2026-08-01",'
            f'"endDate":"{end}","schoolYear":"2027"}}'
            for number, title, kind, end in (
                (1, "2026-2027", "schoolYear", "2027-08-01"),
                (2, "Semester 1", "semester", "2027-01-01"),
            )
        )
        self.shelves["courses"].add(
            f'{_head("c", 1 + course)}"title":"Course {1 + course}","courseCode":"C{1 + course:03}",'
            f'"schoolYear":{year},"grades":["{_pick(_GRADES, course)}"],"subjects":["Subject {course % 9}"],'
            f'"org":{district}}}'
            for course in range(_COURSES)
        )

    def _write_classes(self) -> None:
        """Classes and their teachers."""
        per_school = _SLOTS * self._sections
        count = self._schools * per_school
        year = _refer("academicSession", "a", 1)
        self.shelves["classes"].add(
            f'{_head("k", 1 + number)}"title":"Course {1 + number % _COURSES} - {1 + number}",'
            f'"classCode":"{number:06}","classType":"scheduled","location":"Room {number % 90}",'
            f'"grades":["{_pick(_GRADES, number)}"],'
            f'"subjects":["Subject {number % 9}"],"course":{_refer("course", "c", 1 + number % _COURSES)},'
            f'"school":{_refer("org", "o", 2 + number // per_school)},"terms":[{year}],"periods":["{number % 8}"]}}'
            for number in range(count)
        )
        self.shelves["users"].add(
            _render_user(1 + number, 2 + min(number * _TEACHING_LOAD, count - 1) // per_school, "teacher", "")
            for number in range(self._teachers)
        )
        classes = np.arange(count)
        leads = classes // _TEACHING_LOAD
        for chosen, teachers, primary in (
            (classes, leads, "true"),
            (classes[::_CO_TEACHER_EVERY], (leads[::_CO_TEACHER_EVERY] + 1) % self._teachers, "false"),
        ):
            self._enroll(1 + teachers, 1 + chosen, 2 + chosen // per_school, "teacher", primary)

    def _admit(self, schools: Numbers, seats: Numbers) -> None:
        """New students.

        The seats of a school come in blocks of a section's size; from slot to slot the blocks are mixed anew.
        """
        users = self.shelves["users"]
        numbers = np.arange(users.next_number, users.next_number + len(schools))
        users.add(
            (
                _render_user(number, 2 + school, "student", f'"{_pick(_GRADES, number)}"')
                for number, school in zip(numbers.tolist(), schools.tolist(), strict=True)
            ),
            numbers,
        )
        blocks, places = np.divmod(seats, _SECTION_SIZE)
        slots = np.arange(_SLOTS)[:, None]
        classes = 1 + (schools * _SLOTS + slots) * self._sections + (blocks + slots * places) % self._sections
        taking = (slots < _SLOTS - 1) | (numbers % 2 == 0)
        everyone, everywhere = np.broadcast_to(numbers, taking.shape), np.broadcast_to(2 + schools, taking.shape)
        self._enroll(everyone[taking], classes[taking], everywhere[taking], "student", "false")

    def _enroll(self, users: Numbers, classes: Numbers, schools: Numbers, role: str, primary: str) -> None:
        shelf = self.shelves["enrollments"]
        first = shelf.next_number
        shelf.add(
            (
                f'{_head("e", number)}"user":{_refer("user", "u", user)},"class":{_refer("class", "k", class_)},'
                f'"school":{_refer("org", "o", school)},"role":"{role}","primary":{primary},'
                f'"beginDate":"2026-08-01","endDate":"{_LAST_DAY}"}}'
                for number, (user, class_, school) in enumerate(
                    zip(users.tolist(), classes.tolist(), schools.tolist(), strict=True), first
                )
            ),
            users if role == "student" else None,
        )


def _render_user(number: int, school: int, role: str, grades: str) -> str:
    return (
        f'{_head("u", number)}"username":"user{number}","userIds":[{{"type":"SIS","identifier":"{number}"}}],'
        f'"enabledUser":true,"givenName":"{_pick(_GIVEN, number)}",'
        f'"familyName":"{_pick(_FAMILY, number // 7)}-{number}",'
        f'"role":"{role}","identifier":"{number}","email":"user{number}@wideplains.example","agents":[],'
        f'"orgs":[{_refer("org", "o", school)}],"grades":[{grades}]}}'
    )


def _head(prefix: str, number: int) -> str:
    """The beginning of every record."""
    return (
        f'{{"sourcedId":"{_name(prefix, number)}","status":"active",'
        f'"dateLastModified":"2026-08-{1 + number % 30:02}T05:00:00.000Z","metadata":{{"vendor.rev":"{number % 97}"}},'
    )


def _refer(kind: str, prefix: str, number: int) -> str:
    sourced_id = _name(prefix, number)
    return f'{{"href":"https://sis.wideplains.example/{kind}/{sourced_id}","sourcedId":"{sourced_id}","type":"{kind}"}}'


def _name(prefix: str, number: int) -> str:
    """A sourcedId."""
    return f"{prefix}{number:09}"


def _pick(choices: tuple[str, ...], number: int) -> str:
    return choices[number % len(choices)]


def _accumulate(lengths: Numbers) -> Numbers:
    """Where records of such lengths begin, and where the last one ends."""
    return np.concatenate((np.zeros(1, np.int64), np.cumsum(lengths)))
