"""OneRoster rows → canonical records (`homeroom.roster`), with every record's problems named by code and field."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET

from homeroom.codes import Code
from homeroom.roster import (
    AcademicSession,
    Class,
    Course,
    Demographics,
    Enrollment,
    Org,
    Record,
    Role,
    User,
    UserId,
)
from provider_gateway.failures import RecordProblem
from provider_gateway.providers import _oneroster_words as words
from provider_gateway.providers._demographics_keys import read_keys
from provider_gateway.providers._oneroster_increments import is_older
from provider_gateway.providers._oneroster_shapes import (
    AcademicSessionRow,
    ClassRow,
    CourseRow,
    DecodedPage,
    DemographicsRow,
    EnrollmentRow,
    OrgRow,
    Ref,
    Refs,
    RoleRow,
    Row,
    UserRow,
)
from provider_gateway.providers._oneroster_words import ENROLLMENT_ROLES, FLAGS, read_date, read_list, read_set
from provider_gateway.providers.contract import RawPage


def read_page(
    collection: str, decoded: DecodedPage, learned: tuple[tuple[str, str], ...], since: str | None = None
) -> RawPage:
    """The records of a page, its tombstones, what had to be refused, and what was not modified `since`."""
    read = READERS[collection]
    page = RawPage(received=decoded.received)
    records, gone = page.records, page.tombstones
    page.refused += decoded.refused
    for row in decoded.rows:
        try:
            sourced_id = row.sourced_id
            if not sourced_id:
                raise RecordProblem(Code.RECORD_NO_ID)
            if row.status != "active" and row.status is not None and is_gone(row.status):
                gone.append(sourced_id)
                continue
            if learned:
                _take_further(row, learned)
            records.append(read(row))
            if since is not None and is_older(row.date_last_modified, since):
                page.unstamped.add(sourced_id)
        except words.BadValue:
            page.refused.append(_find_bad_value(collection, row))
        except RecordProblem as problem:
            problem.sourced_id = row.sourced_id or None
            page.refused.append(problem)
    _look_closer(collection, page)
    return page


def _look_closer(collection: str, page: RawPage) -> None:
    """What is done with a page's records once they are read."""
    match collection:
        case "demographics":
            _take_keys(page)
        case "enrollments":
            _note_reversed(page, "begin_date")
        case "academicSessions":
            _note_reversed(page, "start_date")


def _note_reversed(page: RawPage, begin: str) -> None:
    """Tell of records that end before they begin. They are taken as they are: so some systems write "never came"."""
    begins = attrgetter(begin)
    for record in page.records:
        first, last = begins(record), record.end_date  # type: ignore[attr-defined]  # the collections that have one
        if last is not None and first is not None and first > last:
            page.notes.append(RecordProblem(Code.BAD_DATE, field="endDate", sourced_id=record.sourced_id))


def _take_keys(page: RawPage) -> None:
    """Give what stands in metadata under known keys its own fields (B5)."""
    for number, record in enumerate(page.records):
        if record.metadata:
            frl, iep, ell, notes = read_keys(record.metadata, record.sourced_id)
            page.notes += notes
            if (frl, iep, ell) != (None, None, None):
                page.records[number] = msgspec.structs.replace(record, frl_status=frl, iep_status=iep, ell_status=ell)


def is_gone(status: str) -> bool:
    """Whether a status means that the record is gone."""
    try:
        return words.GONE[status]
    except KeyError:
        raise RecordProblem(Code.BAD_ENUM, field="status") from None


def _take_further(row: Row, learned: tuple[tuple[str, str], ...]) -> None:
    further = {name: value for attribute, name in learned if (value := getattr(row, attribute)) is not UNSET}
    if further:
        row.metadata = further | (row.metadata or {})


def _missing(field: str) -> RecordProblem:
    return RecordProblem(Code.FIELD_MISSING, field=field)


def _id(ref: Ref | None) -> str | None:
    return (ref.sourced_id or None) if ref is not None else None


def _ids(refs: Refs) -> tuple[str, ...]:
    if not refs:
        return ()
    if len(refs) == 1:
        only = refs[0].sourced_id
        return (only,) if only else ()
    return tuple(sorted({ref.sourced_id for ref in refs if ref.sourced_id}))


def _read_org(row: OrgRow) -> Org:
    if not row.name:
        raise _missing("name")
    if not row.type:
        raise _missing("type")
    return Org(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        name=row.name,
        type=words.ORG_TYPES[row.type],
        identifier=row.identifier or None,
        parent_sourced_id=_id(row.parent),
    )


def _read_session(row: AcademicSessionRow) -> AcademicSession:
    if not row.title:
        raise _missing("title")
    if not row.type:
        raise _missing("type")
    start, end = read_date(row.start_date), read_date(row.end_date)
    if start is None:
        raise _missing("startDate")
    if end is None:
        raise _missing("endDate")
    return AcademicSession(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        title=row.title,
        type=words.SESSION_TYPES[row.type],
        start_date=start,
        end_date=end,
        parent_sourced_id=_id(row.parent),
        school_year=str(row.school_year) if row.school_year else None,
    )


def _read_course(row: CourseRow) -> Course:
    if not row.title:
        raise _missing("title")
    return Course(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        title=row.title,
        course_code=row.course_code or None,
        school_year_sourced_id=_id(row.school_year),
        org_sourced_id=_id(row.org),
        grades=read_set(row.grades),
        subjects=read_list(row.subjects),
        subject_codes=read_list(row.subject_codes),
    )


def _read_class(row: ClassRow) -> Class:
    school = _id(row.school)
    if not row.title:
        raise _missing("title")
    if school is None:
        raise _missing("school")
    return Class(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        title=row.title,
        school_sourced_id=school,
        class_code=row.class_code or None,
        class_type=words.CLASS_TYPES[row.class_type] if row.class_type else None,
        location=row.location or None,
        course_sourced_id=_id(row.course),
        term_sourced_ids=_ids(row.terms),
        grades=read_set(row.grades),
        subjects=read_list(row.subjects),
        subject_codes=read_list(row.subject_codes),
        periods=read_set(row.periods),
    )


def _read_user(row: UserRow) -> User:
    if row.given_name is None:
        raise _missing("givenName")
    if row.family_name is None:
        raise _missing("familyName")
    enabled = FLAGS.get(row.enabled_user, UNSET)
    if enabled is UNSET:
        raise words.BadValue(Code.BAD_ENUM)
    return User(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        given_name=row.given_name,
        family_name=row.family_name,
        roles=_read_roles(row),
        username=row.username or None,
        enabled_user=enabled is not False,
        middle_name=row.middle_name or None,
        preferred_first_name=row.preferred_first_name or None,
        preferred_middle_name=row.preferred_middle_name or None,
        preferred_last_name=row.preferred_last_name or None,
        pronouns=row.pronouns or None,
        identifier=row.identifier or None,
        user_master_identifier=row.user_master_identifier or None,
        email=row.email or None,
        sms=row.sms or None,
        phone=row.phone or None,
        user_ids=_read_user_ids(row) if row.user_ids else (),
        agent_sourced_ids=_ids(row.agents),
        grades=read_set(row.grades),
    )


def _read_user_ids(row: UserRow) -> tuple[UserId, ...]:
    found = {(entry.type or "", entry.identifier) for entry in row.user_ids or () if entry.identifier}
    return tuple([UserId(type=kind, identifier=identifier) for kind, identifier in sorted(found)])


def _read_roles(row: UserRow) -> tuple[Role, ...]:
    """1.2's `roles`, else 1.1's `role` at each of `orgs`, the first of which is the primary one."""
    if row.roles:
        return _read_role_rows(row.roles, fallback=_id(row.primary_org) or (_id(row.orgs[0]) if row.orgs else None))
    if not row.role:
        raise _missing("role")
    if not row.orgs:
        raise _missing("orgs")
    role = words.USER_ROLES[row.role]
    first = row.orgs[0].sourced_id
    if not first:
        raise _missing("orgs")
    primary = Role(role=role, org_sourced_id=first, role_type="primary")
    if len(row.orgs) == 1:
        return (primary,)
    others = sorted({ref.sourced_id for ref in row.orgs if ref.sourced_id} - {first})
    return (primary, *[Role(role=role, org_sourced_id=org) for org in others])


def _read_role_rows(rows: list[RoleRow], fallback: str | None) -> tuple[Role, ...]:
    """Exactly one role is primary: the first that is called so, else the first; the others follow sorted."""
    primary: Role | None = None
    others: list[Role] = []
    for row in rows:
        org = _id(row.org) or fallback
        if not row.role:
            raise _missing("roles.role")
        if org is None:
            raise _missing("roles.org")
        role = Role(
            role=words.USER_ROLES[row.role],
            org_sourced_id=org,
            begin_date=read_date(row.begin_date),
            end_date=read_date(row.end_date),
        )
        if primary is None and row.role_type and words.ROLE_TYPES[row.role_type] == "primary":
            primary = role
        elif role not in others:
            others.append(role)
    if primary is None:
        primary, *others = others
    others = [role for role in others if role != primary]
    others.sort(key=lambda role: (role.org_sourced_id, role.role, str(role.begin_date), str(role.end_date)))
    primary = msgspec.structs.replace(primary, role_type="primary")
    return (primary, *others)


def _read_enrollment(row: EnrollmentRow) -> Enrollment:
    user, class_, school = row.user, row.class_, row.school
    if user is None or not user.sourced_id:
        raise _missing("user")
    if class_ is None or not class_.sourced_id:
        raise _missing("class")
    if not row.role:
        raise _missing("role")
    primary = FLAGS.get(row.primary, UNSET)
    if primary is UNSET:
        raise words.BadValue(Code.BAD_ENUM)
    return Enrollment(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        user_sourced_id=user.sourced_id,
        class_sourced_id=class_.sourced_id,
        school_sourced_id=(school.sourced_id or None) if school is not None else None,
        role=ENROLLMENT_ROLES[row.role],
        primary=primary,
        begin_date=read_date(row.begin_date) if row.begin_date else None,
        end_date=read_date(row.end_date) if row.end_date else None,
    )


def _read_demographics(row: DemographicsRow) -> Demographics:
    flag = words.read_flag
    return Demographics(
        sourced_id=row.sourced_id,  # type: ignore[arg-type]  # `read_page` has checked it
        metadata=row.metadata or None,
        birth_date=read_date(row.birth_date),
        sex=words.SEXES[row.sex] if row.sex else None,
        american_indian_or_alaska_native=flag(row.american_indian_or_alaska_native),
        asian=flag(row.asian),
        black_or_african_american=flag(row.black_or_african_american),
        native_hawaiian_or_other_pacific_islander=flag(row.native_hawaiian_or_other_pacific_islander),
        white=flag(row.white),
        demographic_race_two_or_more_races=flag(row.demographic_race_two_or_more_races),
        hispanic_or_latino_ethnicity=flag(row.hispanic_or_latino_ethnicity),
        country_of_birth_code=row.country_of_birth_code or None,
        state_of_birth_abbreviation=row.state_of_birth_abbreviation or None,
        city_of_birth=row.city_of_birth or None,
        public_school_residence_status=row.public_school_residence_status or None,
    )


READERS: dict[str, Callable[[Any], Record]] = {
    "orgs": _read_org,
    "academicSessions": _read_session,
    "courses": _read_course,
    "classes": _read_class,
    "users": _read_user,
    "enrollments": _read_enrollment,
    "demographics": _read_demographics,
}

_FLAG_FIELDS = (
    "enabled_user",
    "primary",
    "american_indian_or_alaska_native",
    "asian",
    "black_or_african_american",
    "native_hawaiian_or_other_pacific_islander",
    "white",
    "demographic_race_two_or_more_races",
    "hispanic_or_latino_ethnicity",
)
_CHECKS: tuple[tuple[Iterable[str], Callable[[Any], object]], ...] = (
    (("start_date", "end_date", "begin_date", "birth_date"), read_date),
    (_FLAG_FIELDS, words.read_flag),
    (("sex",), lambda value: value and words.SEXES[value]),
    (("class_type",), lambda value: value and words.CLASS_TYPES[value]),
)
_TYPE_WORDS = {"orgs": words.ORG_TYPES, "academicSessions": words.SESSION_TYPES}
_ROLE_WORDS = {"users": words.USER_ROLES, "enrollments": words.ENROLLMENT_ROLES}


def _find_bad_value(collection: str, row: Row) -> RecordProblem:
    """Which field holds the value that can't be taken; looked for only once something went wrong."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(type(row))}
    checks = [(name, check) for fields, check in _CHECKS for name in fields if name in names]
    if enumeration := _TYPE_WORDS.get(collection):
        checks.append(("type", enumeration.__getitem__))
    if (enumeration := _ROLE_WORDS.get(collection)) and not getattr(row, "roles", None):
        checks.append(("role", enumeration.__getitem__))
    for name, check in checks:
        try:
            check(getattr(row, name))
        except words.BadValue as bad:
            return RecordProblem(bad.code, field=names[name], sourced_id=row.sourced_id)
    for role in getattr(row, "roles", None) or ():
        try:
            read_date(role.begin_date)
            read_date(role.end_date)
        except words.BadValue as bad:
            return RecordProblem(bad.code, field="roles", sourced_id=row.sourced_id)
    return RecordProblem(Code.BAD_ENUM, field="roles", sourced_id=row.sourced_id)
