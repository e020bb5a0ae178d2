"""The district: founded from one seed, the same every time, and living on from day to day."""

from collections.abc import Callable
from datetime import date, timedelta
from random import Random
from typing import Final

from sandbox_district.curriculum import DISTRICT_ID, LEVELS, list_courses, write_course, write_orgs, write_sessions
from sandbox_district.days import Changes, pass_day, record_changes
from sandbox_district.people import GRADES
from sandbox_district.records import Books, Clock, format_instant
from sandbox_district.registrar import Registrar

FIRST_DAY: Final = date(2026, 9, 14)


class District(Books):
    """A made-up district.

    Args:
        seed: the same seed, students and first_day make the same district, and the same days after it.
        students: how many it starts with.
        first_day: the date of day 0; the school year is the one around it.
        clock: what dateLastModified is stamped with when records change; the district's own calendar if not given.
    """

    def __init__(
        self, seed: int = 1, students: int = 1200, first_day: date = FIRST_DAY, clock: Clock | None = None
    ) -> None:
        super().__init__(first_day, clock)
        self.seed = seed
        self.history: list[Changes] = []
        self.watchers: list[Callable[[], None]] = []
        """Called after each change."""
        self._found(Random(f"{seed}/founding"), students)

    def advance_day(self) -> Changes:
        """Let a day go by; return exactly what changed."""
        self.day += 1
        return self.change(lambda: pass_day(Registrar(self, Random(f"{self.seed}/day {self.day}"))))

    def change(self, edit: Callable[[], object]) -> Changes:
        """Let an edit of one's own happen; changed records get a new dateLastModified, the truth goes to history."""
        stamps = {
            name: {key: record["dateLastModified"] for key, record in records.items()}
            for name, records in self.collections.items()
        }
        changes, touched = record_changes(self, edit)
        stamp = format_instant(self.read_clock())
        for collection, keys in touched.items():
            for key in keys:
                if before := stamps[collection].get(key):
                    self.stamps_before[collection][key] = before
                self.amend(collection, key, dateLastModified=stamp)
        self.history.append(changes)
        for watch in self.watchers:
            watch()
        return changes

    def _found(self, rng: Random, students: int) -> None:
        for org in write_orgs():
            self.put("orgs", org)
        for session in write_sessions(self.today):
            self.put("academicSessions", session)
        for course in list_courses():
            self.put("courses", write_course(course))
        registrar = Registrar(self, rng)
        for number in range(students):
            registrar.admit_student(GRADES[number % len(GRADES)])
        self._appoint_staff(registrar)
        self._share_students(registrar)
        self._misdate_enrollments(registrar)
        for records in self.collections.values():
            for record in records.values():
                moment = self.read_clock() - timedelta(minutes=rng.randrange(60, 60 * 24 * 40))
                record["dateLastModified"] = format_instant(moment)

    def _appoint_staff(self, registrar: Registrar) -> None:
        """Administrators and aides, one of them with an identifier that needs care in a URL, and a shared teacher."""
        registrar.appoint("administrator", [DISTRICT_ID])
        registrar.appoint("aide", [DISTRICT_ID], "aide/ü 3")
        for level in LEVELS:
            for school, _ in level.schools:
                registrar.appoint("administrator", [school])
                aide = registrar.appoint("aide", [school])
                if section := next((key for key in self.active("classes") if key.startswith(school)), None):
                    registrar.enroll(aide, section, "aide")
        registrar.hire(LEVELS[0].schools[0][0], "Substitute")

    def _share_students(self, registrar: Registrar) -> None:
        """Every hundredth student, at least one, also takes a class at another school."""
        users = self.active("users")
        for key in [key for key, user in users.items() if user["role"] == "student"][8::100]:
            school = users[key]["orgs"][0]["sourcedId"]
            elsewhere = [c for c, section in self.active("classes").items() if section["school"]["sourcedId"] != school]
            if not elsewhere:
                continue
            section = registrar.rng.choice(elsewhere)
            other = self.collections["classes"][section]["school"]
            self.amend("users", key, orgs=[*users[key]["orgs"], other])
            registrar.enroll(key, section)

    def _misdate_enrollments(self, registrar: Registrar) -> None:
        """Some enrollments are over, and some have not begun, though their status says active."""
        of_students = [key for key, record in self.active("enrollments").items() if record["role"] == "student"]
        for number, key in enumerate(of_students[::90]):
            if number % 3:
                registrar.shift_dates(key, -30, -3)
            else:
                registrar.shift_dates(key, 10, 60)
