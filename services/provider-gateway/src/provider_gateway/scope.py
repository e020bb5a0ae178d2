"""What of a district an integration wants (pure): which collections, which records, and what of them (C3, C4).

Most rules look at one record. Three of them look further: a class counts by its terms, an enrollment by its class, a
student by their enrollments, and demographics by their user. Where an option asks for that (`Scope.tied`), collections
are read one after the other (`stages`), and pages carry along what each record is tied to (`tie`).

Dates as OneRoster has them: a begin is inclusive, an end exclusive, a missing one open. "Today" is the date in the
integration's time zone when the run began.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import msgspec

from homeroom.messages import Options
from homeroom.roster import COLLECTIONS, AcademicSession, Class, Enrollment, Org, Record, Role, User, record_key

_GUARDIANS = frozenset({"guardian", "parent", "relative"})
_OF_CLASSES = frozenset({"courses", "classes", "enrollments"})


@dataclass(frozen=True, slots=True)
class Scope:
    """The rules of one fetch; pages are made with it in whichever process there is."""

    options: Options
    today: date
    schools: frozenset[str] = frozenset()
    """The sourcedIds of all orgs that are schools; only where schools are excluded."""
    past_sessions: frozenset[str] = frozenset()
    """Academic sessions that are not current today; only where sessions are respected."""
    masked: frozenset[str] | None = None
    """Fields of users that are alike for everybody; None until the first page of users has shown it."""

    @property
    def tied(self) -> bool:
        """Whether the choice of records depends on others, and so on all of them being read."""
        options = self.options
        return options.respect_enrollment_dates or options.respect_academic_sessions or bool(options.excluded_schools)

    def select(self, collection: str, records: list[Record]) -> tuple[list[Record], list[str]]:
        """The records that belong, as far as they belong, and the sourcedIds of those that don't."""
        options = self.options
        match collection:
            case "users" if not options.sync_parents or self.tied:
                return self._select_users(records)
            case "classes" | "enrollments" if self.tied:
                belongs = self._class_belongs if collection == "classes" else self._enrollment_belongs
                left_out = [record.sourced_id for record in records if not belongs(record)]
                return [record for record in records if belongs(record)] if left_out else records, left_out
        return records, []

    def tie(self, collection: str, records: Sequence[Record]) -> bytes:
        """What each record is tied to: of an enrollment the keys of its class and user; whether a user only learns."""
        if not self.tied:
            return b""
        match collection:
            case "enrollments":
                return b"".join(
                    [
                        record_key(one.class_sourced_id) + record_key(one.user_sourced_id)
                        for one in records
                        if isinstance(one, Enrollment)
                    ]
                )
            case "users":
                return bytes([_only_learns(one) for one in records if isinstance(one, User)])
        return b""

    def _class_belongs(self, record: Record) -> bool:
        assert isinstance(record, Class)  # noqa: S101 - the collection says so
        if record.school_sourced_id in self.options.excluded_schools:
            return False
        terms = record.term_sourced_ids
        if not self.options.respect_academic_sessions or not terms:
            return True
        return not self.past_sessions.issuperset(terms)

    def _enrollment_belongs(self, record: Record) -> bool:
        assert isinstance(record, Enrollment)  # noqa: S101 - the collection says so
        if record.school_sourced_id in self.options.excluded_schools:
            return False
        return not self.options.respect_enrollment_dates or is_current(record.begin_date, record.end_date, self.today)

    def _select_users(self, records: list[Record]) -> tuple[list[Record], list[str]]:
        chosen: list[Record] = []
        left_out: list[str] = []
        for user in records:
            assert isinstance(user, User)  # noqa: S101 - the collection says so
            roles = user.roles
            if self.tied:
                roles = tuple([role for role in roles if self._role_belongs(role)])
                if roles and self._is_elsewhere_only(user):
                    roles = ()
            if not roles or (not self.options.sync_parents and all(role.role in _GUARDIANS for role in roles)):
                left_out.append(user.sourced_id)
                continue
            if len(roles) != len(user.roles):
                user = msgspec.structs.replace(user, roles=_with_primary(roles))  # noqa: PLW2901 - the same person
            if user.agent_sourced_ids and not self.options.sync_parents:
                user = msgspec.structs.replace(user, agent_sourced_ids=())  # noqa: PLW2901 - the same person
            chosen.append(user)
        return chosen, left_out

    def _role_belongs(self, role: Role) -> bool:
        if role.org_sourced_id in self.options.excluded_schools:
            return False
        return not self.options.respect_enrollment_dates or is_current(role.begin_date, role.end_date, self.today)

    def _is_elsewhere_only(self, user: User) -> bool:
        """Whether all schools of a person are excluded: being known to the district as well does not keep them."""
        excluded = self.options.excluded_schools
        if not excluded:
            return False
        schools = [role.org_sourced_id for role in user.roles if role.org_sourced_id in self.schools]
        return bool(schools) and all(school in excluded for school in schools)


def wanted_collections(options: Options) -> tuple[str, ...]:
    """The collections to keep; whatever is known of the others leaves by configuration."""
    return tuple(
        collection
        for collection in COLLECTIONS
        if (options.sync_demographics or collection != "demographics")
        and (options.sync_classes or collection not in _OF_CLASSES)
    )


def stages(options: Options) -> tuple[tuple[str, ...], ...]:
    """The collections to read, each stage at once and one stage after the other.

    Also those that are only read to decide about others: who is enrolled today is not known without enrollments.
    """
    wanted = wanted_collections(options)
    if not Scope(options, date.min).tied:
        return (wanted,)
    read = set(wanted)
    if options.respect_enrollment_dates:
        read |= {"classes", "enrollments"}
    order = (("orgs", "academicSessions"), ("courses", "classes"), ("enrollments",), ("users",), ("demographics",))
    return tuple(stage for parts in order if (stage := tuple(part for part in parts if part in read)))


def is_current(begin: date | None, end: date | None, today: date) -> bool:
    """Whether a day lies in a span of dates: the first day counts, the last does not.

    >>> is_current(date(2026, 9, 1), date(2027, 6, 30), date(2026, 9, 1))
    True
    >>> is_current(date(2026, 9, 1), date(2027, 6, 30), date(2027, 6, 30))
    False
    """
    return (begin is None or begin <= today) and (end is None or today < end)


def list_schools(orgs: Iterable[Record]) -> frozenset[str]:
    """The sourcedIds of those orgs that are schools."""
    return frozenset(org.sourced_id for org in orgs if isinstance(org, Org) and org.type == "school")


def list_past_sessions(sessions: Iterable[Record], today: date) -> frozenset[str]:
    """The sourcedIds of academic sessions that are not current today."""
    return frozenset(
        one.sourced_id
        for one in sessions
        if isinstance(one, AcademicSession) and not is_current(one.start_date, one.end_date, today)
    )


def _only_learns(user: User) -> bool:
    return all(role.role == "student" for role in user.roles)


def _with_primary(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """Roles of which exactly one is primary, the first if the primary one is gone."""
    if any(role.role_type == "primary" for role in roles):
        return roles
    first, *others = roles
    return (msgspec.structs.replace(first, role_type="primary"), *others)
