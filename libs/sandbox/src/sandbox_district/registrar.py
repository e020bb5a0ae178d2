"""The district's office: admits people, opens sections, enrolls, moves and takes out, and writes it in the books."""

from collections import Counter, defaultdict
from datetime import timedelta
from random import Random

from sandbox_district.curriculum import DISTRICT_ID, LEVELS, Course, Level, list_courses
from sandbox_district.people import draw_name, happens, write_adult, write_demographics, write_student
from sandbox_district.records import Books, Record, compose, is_active, refer

SECTION_SIZE = 26
_TEACHING_LOAD = 6
Seat = tuple[str, str, str]


class Registrar:
    """Works on the books with one source of chance. Reads at the start who sits where and who teaches what."""

    def __init__(self, books: Books, rng: Random) -> None:
        self.books = books
        self.rng = rng
        self.courses = {course.sourced_id: course for course in list_courses()}
        self.rolls: Counter[str] = Counter()
        self.loads: Counter[str] = Counter()
        self.sections: defaultdict[Seat, list[str]] = defaultdict(list)
        self.faculty: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for section in books.active("classes").values():
            self._list_section(section)
        for enrollment in books.active("enrollments").values():
            self._count(enrollment, 1)
        for user in books.active("users").values():
            if user["role"] == "teacher":
                self.faculty[user["orgs"][0]["sourcedId"], user["metadata"]["department"]].append(user["sourcedId"])

    # People

    def admit_student(self, grade: str, school: str | None = None) -> Record:
        """A new student with demographics, usually guardians, and a seat in every course of the grade."""
        level = next(level for level in LEVELS if grade in level.grades)
        school = school or self.rng.choice(level.schools)[0]
        number = self.books.count_up("student")
        student = write_student(self.rng, number, draw_name(self.rng), grade, [school])
        self.books.put("users", student)
        self.books.put("demographics", write_demographics(self.rng, student, self.books.today))
        self._find_guardians(student)
        self._choose_courses(student["sourcedId"], level, school, grade)
        return self.books.collections["users"][student["sourcedId"]]

    def hire(self, school: str, department: str) -> str:
        """A new teacher of a department of a school."""
        sourced_id = f"tea-{self.books.count_up('staff'):04}"
        teacher = write_adult(
            self.rng, "teacher", sourced_id, draw_name(self.rng), [school, DISTRICT_ID], department=department
        )
        self.books.put("users", teacher)
        self.faculty[school, department].append(sourced_id)
        return sourced_id

    def appoint(self, role: str, schools: list[str], sourced_id: str | None = None) -> str:
        """A new administrator or aide."""
        sourced_id = sourced_id or f"{role[:3]}-{self.books.count_up('staff'):04}"
        self.books.put("users", write_adult(self.rng, role, sourced_id, draw_name(self.rng), schools))
        return sourced_id

    def link(self, student: str, guardian: str) -> None:
        """Name each of the two as the other's agent."""
        for one, other in ((student, guardian), (guardian, student)):
            agents = self.books.collections["users"][one]["agents"]
            self.books.amend("users", one, agents=[*agents, refer("user", other)])

    def dismiss(self, user: str, *, tombstone: bool) -> None:
        """Take a person out with everything that hangs on them; their family stays, and is no longer their agent."""
        for agent in self.books.collections["users"][user]["agents"]:
            left = [
                ref for ref in self.books.collections["users"][agent["sourcedId"]]["agents"] if ref["sourcedId"] != user
            ]
            self.books.amend("users", agent["sourcedId"], agents=left)
        for enrollment in self.enrollments_of(user):
            self.withdraw(enrollment, tombstone=tombstone)
        for collection in ("demographics", "users"):
            self._take_out(collection, user, tombstone=tombstone)

    # Classes and enrollments

    def open_section(self, school: str, course: Course, grades: tuple[str, ...]) -> str:
        """A new section with its primary teacher and, now and then, one or two co-teachers."""
        number = self.books.count_up(f"section {school} {course.code}")
        terms = [self.rng.choice(course.level.terms)] if course.elective else ["year"]
        section = compose(
            f"{school}-{course.code}-{number:02}",
            {"vendor.capacity": SECTION_SIZE, "vendor.rotation": self.rng.choice(("A", "B"))},
            title=f"{course.title} - {number}",
            classCode=f"{course.code}.{number:02}",
            classType="homeroom" if course.subject == "Homeroom" else "scheduled",
            location=f"Room {self.rng.randrange(1, 60)}",
            grades=list(grades),
            subjects=[course.subject],
            course=refer("course", course.sourced_id),
            school=refer("org", school),
            terms=[refer("academicSession", term) for term in terms],
            subjectCodes=[],
            periods=[str(self.rng.randrange(1, 8))],
            resources=[],
        )
        self.books.put("classes", section)
        self._list_section(section)
        (helpers,) = self.rng.choices((0, 1, 2), (80, 15, 5))
        team: list[str] = []
        for place in range(1 + helpers):
            team.append(self._find_teacher(school, course.subject, team))
            self.enroll(team[-1], section["sourcedId"], "teacher", primary=place == 0)
        return str(section["sourcedId"])

    def find_seat(self, school: str, course: Course, grade: str) -> str:
        """The emptiest section of a course for a grade; a new one when all are full."""
        grades = course.grades if course.elective else (grade,)
        sections = self.sections[school, course.sourced_id, "-".join(grades)]
        section = min(sections, key=lambda sourced_id: (self.rolls[sourced_id], sourced_id), default=None)
        if section is None or self.rolls[section] >= SECTION_SIZE:
            return self.open_section(school, course, grades)
        return section

    def enroll(self, user: str, section: str, role: str = "student", *, primary: bool = False) -> str:
        """Enroll a person in a section from the first day of its term, or from today once the year has begun."""
        record = self.books.collections["classes"][section]
        (term,) = (self.books.collections["academicSessions"][ref["sourcedId"]] for ref in record["terms"])
        begin = max(term["startDate"], self.books.today.isoformat()) if self.books.day else term["startDate"]
        enrollment = compose(
            f"{section}.{user}",
            {},
            user=refer("user", user),
            **{"class": refer("class", section)},
            school=record["school"],
            role=role,
            primary=primary,
            beginDate=min(begin, term["endDate"]),
            endDate=term["endDate"],
        )
        self.books.put("enrollments", enrollment)
        self._count(enrollment, 1)
        return str(enrollment["sourcedId"])

    def withdraw(self, enrollment: str, *, tombstone: bool) -> None:
        """Take an enrollment out."""
        self._count(self.books.collections["enrollments"][enrollment], -1)
        self._take_out("enrollments", enrollment, tombstone=tombstone)

    def enrollments_of(self, user: str) -> list[str]:
        """The active enrollments of a person."""
        enrollments = self.books.active("enrollments").items()
        return [sourced_id for sourced_id, record in enrollments if record["user"]["sourcedId"] == user]

    def shift_dates(self, enrollment: str, begin: int, end: int) -> None:
        """Let an enrollment begin and end some days from today."""
        today = self.books.today
        self.books.amend(
            "enrollments",
            enrollment,
            beginDate=(today + timedelta(days=begin)).isoformat(),
            endDate=(today + timedelta(days=end)).isoformat(),
        )

    def _choose_courses(self, student: str, level: Level, school: str, grade: str) -> None:
        offered = [course for course in self.courses.values() if course.level is level and grade in course.grades]
        chosen = [course for course in offered if not course.elective]
        chosen += self.rng.sample([course for course in offered if course.elective], level.electives)
        for course in chosen:
            self.enroll(student, self.find_seat(school, course, grade))

    def _find_guardians(self, student: Record) -> None:
        siblings = self.books.collections["demographics"]
        number = int(student["identifier"]) - 100000
        sibling = f"stu-{100000 + number - self.rng.randrange(1, 40)}"
        if sibling in siblings and happens(self.rng, 35):
            for agent in list(self.books.collections["users"][sibling]["agents"]):
                self.link(student["sourcedId"], agent["sourcedId"])
            return
        for _ in range(self.rng.choice((0, 1, 1, 1, 2))):
            role = self.rng.choice(("parent", "parent", "guardian"))
            sourced_id = f"fam-{self.books.count_up('family'):05}"
            name = draw_name(self.rng, student["familyName"])
            schools = [ref["sourcedId"] for ref in student["orgs"]]
            self.books.put("users", write_adult(self.rng, role, sourced_id, name, schools))
            self.link(student["sourcedId"], sourced_id)

    def _find_teacher(self, school: str, department: str, besides: list[str]) -> str:
        faculty = [teacher for teacher in self.faculty[school, department] if teacher not in besides]
        free = [teacher for teacher in faculty if self.loads[teacher] < _TEACHING_LOAD]
        return self.rng.choice(free) if free and not happens(self.rng, 15) else self.hire(school, department)

    def _list_section(self, section: Record) -> None:
        seat = (section["school"]["sourcedId"], section["course"]["sourcedId"], "-".join(section["grades"]))
        self.sections[seat].append(section["sourcedId"])

    def _count(self, enrollment: Record, by: int) -> None:
        if enrollment["role"] == "student":
            self.rolls[enrollment["class"]["sourcedId"]] += by
        else:
            self.loads[enrollment["user"]["sourcedId"]] += by

    def _take_out(self, collection: str, sourced_id: str, *, tombstone: bool) -> None:
        if sourced_id not in self.books.collections[collection]:
            return
        if tombstone and is_active(self.books.collections[collection][sourced_id]):
            self.books.amend(collection, sourced_id, status="tobedeleted")
        elif not tombstone:
            del self.books.collections[collection][sourced_id]
