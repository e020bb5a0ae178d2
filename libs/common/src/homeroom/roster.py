"""Canonical records: what a roster is made of, whichever provider it came from.

Names and enumerations are OneRoster 1.1's and 1.2's. Missing is `None` (or an empty tuple for lists), never a made-up
value; whatever else a provider sent is kept in `metadata` (B6). `dateLastModified` is left out on purpose: a provider
that only touches its time stamps has changed nothing. Passwords are never taken over.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import msgspec
import xxhash

CANONICAL_VERSION = 1
"""Grows when the same record of a provider becomes other canonical bytes than before."""
MAX_TEXT = 2_000
"""Longest text of a single field, in characters; longer values are refused as FIELD_TOO_LONG."""


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What all records have."""

    sourced_id: str
    metadata: dict[str, Any] | None = None


class Org(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A district, school or other organization (`type`: department, school, district, local, state, national)."""

    name: str
    type: str
    identifier: str | None = None
    parent_sourced_id: str | None = None


class AcademicSession(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A school year, term, semester or grading period; `start_date` is inclusive, `end_date` exclusive."""

    title: str
    type: str
    start_date: date
    end_date: date
    parent_sourced_id: str | None = None
    school_year: str | None = None
    """The calendar year in which the school year ends, as YYYY."""


class Course(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A course as in the catalogue; classes are its sections."""

    title: str
    course_code: str | None = None
    school_year_sourced_id: str | None = None
    org_sourced_id: str | None = None
    grades: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    subject_codes: tuple[str, ...] = ()


class Class(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A section: students and teachers meeting in some terms (B1, B4)."""

    title: str
    school_sourced_id: str
    class_code: str | None = None
    class_type: str | None = None
    location: str | None = None
    course_sourced_id: str | None = None
    term_sourced_ids: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    subject_codes: tuple[str, ...] = ()
    periods: tuple[str, ...] = ()


class Role(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """What a user is at an org; exactly one role of a user is `primary`."""

    role: str
    org_sourced_id: str
    role_type: str = "secondary"
    begin_date: date | None = None
    end_date: date | None = None


class UserId(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """An identifier of a user in another system."""

    type: str
    identifier: str


class User(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A person: student, teacher, staff, or guardian; `agent_sourced_ids` tie guardians and students together."""

    given_name: str
    family_name: str
    roles: tuple[Role, ...]
    username: str | None = None
    enabled_user: bool = True
    middle_name: str | None = None
    preferred_first_name: str | None = None
    preferred_middle_name: str | None = None
    preferred_last_name: str | None = None
    pronouns: str | None = None
    identifier: str | None = None
    user_master_identifier: str | None = None
    email: str | None = None
    sms: str | None = None
    phone: str | None = None
    user_ids: tuple[UserId, ...] = ()
    agent_sourced_ids: tuple[str, ...] = ()
    grades: tuple[str, ...] = ()


class Enrollment(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """A person in a class; `primary` marks the first of several teachers (B3). `end_date` is exclusive."""

    user_sourced_id: str
    class_sourced_id: str
    school_sourced_id: str | None = None
    role: str
    primary: bool | None = None
    begin_date: date | None = None
    end_date: date | None = None


class Demographics(Record, frozen=True, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """Demographics of the user with the same sourcedId; only when the integration asks for them (B5)."""

    birth_date: date | None = None
    sex: str | None = None
    american_indian_or_alaska_native: bool | None = None
    asian: bool | None = None
    black_or_african_american: bool | None = None
    native_hawaiian_or_other_pacific_islander: bool | None = None
    white: bool | None = None
    demographic_race_two_or_more_races: bool | None = None
    hispanic_or_latino_ethnicity: bool | None = None
    country_of_birth_code: str | None = None
    state_of_birth_abbreviation: str | None = None
    city_of_birth: str | None = None
    public_school_residence_status: str | None = None
    frl_status: str | None = None
    """Free or reduced lunch, in the provider's words (B5)."""
    iep_status: bool | None = None
    """Whether there is an individual education plan (B5)."""
    ell_status: bool | None = None
    """Whether the student is an English language learner (B5)."""


AnyRecord = Org | AcademicSession | Course | Class | User | Enrollment | Demographics

RECORD_TYPES: dict[str, type[Record]] = {
    "orgs": Org,
    "academicSessions": AcademicSession,
    "courses": Course,
    "classes": Class,
    "users": User,
    "enrollments": Enrollment,
    "demographics": Demographics,
}
"""Collections by OneRoster's names, parents before children."""

COLLECTIONS = tuple(RECORD_TYPES)

ENTITY_NAMES = {
    "orgs": "org",
    "academicSessions": "academicSession",
    "courses": "course",
    "classes": "class",
    "users": "user",
    "enrollments": "enrollment",
    "demographics": "demographics",
}
"""Collection → the word for one of its records, as event types and OneRoster wrappers use it."""

_encoder = msgspec.json.Encoder(order="deterministic")

encode_record = _encoder.encode
"""The canonical bytes of a record: JSON, keys in a fixed order, nothing that is missing."""


def record_key(sourced_id: str) -> bytes:
    """The 16 bytes that stand for a sourcedId within its collection and integration."""
    return xxhash.xxh3_128_digest(sourced_id.encode())


def fingerprint(canonical: bytes) -> int:
    """A signed 64-bit hash of a record's canonical bytes; 0 is kept for "restore me at the next sync"."""
    value: int = xxhash.xxh3_64_intdigest(canonical) - 0x8000_0000_0000_0000
    return value or 1
