"""What a record must be to be kept, whoever made it: OneRoster's words, lengths, text that can be stored.

The gateway applies the words and limits to what a provider sends, and is generous about spelling; records made by hand
must fit exactly (`find_faults`), since whoever writes them can be told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from typing import Any, Final

import msgspec

from homeroom.codes import Code
from homeroom.messages import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS
from homeroom.roster import MAX_TEXT, RECORD_TYPES, Record, Role, User, UserId, encode_record

MAX_RECORD_BYTES: Final = MAX_CHUNK_BYTES - 4096 - 12 * MAX_CHUNK_RECORDS
"""What is left of a chunk for records: around them are the chunk's own fields and, in base64, fingerprints."""

_ROLES_1_1: Final = ("student", "teacher", "administrator", "aide", "guardian", "parent", "proctor", "relative")
_ROLES_1_2: Final = ("counselor", "districtAdministrator", "principal", "siteAdministrator", "systemAdministrator")
USER_ROLES: Final = (*_ROLES_1_1, *_ROLES_1_2)
ENROLLMENT_ROLES: Final = _ROLES_1_1
ORG_TYPES: Final = ("department", "school", "district", "local", "state", "national")
SESSION_TYPES: Final = ("gradingPeriod", "semester", "schoolYear", "term")
CLASS_TYPES: Final = ("homeroom", "scheduled")
SEXES: Final = ("male", "female", "other", "unspecified")
ROLE_TYPES: Final = ("primary", "secondary")
EXTENSION: Final = re.compile(r"ext:[A-Za-z0-9._-]+\Z")
"""Words of one's own, which OneRoster 1.2 allows in its enumerations."""

_NEW_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@~-]{0,254}\Z")
_WORDS: Final = {
    ("orgs", "type"): ORG_TYPES,
    ("academicSessions", "type"): SESSION_TYPES,
    ("classes", "class_type"): CLASS_TYPES,
    ("enrollments", "role"): ENROLLMENT_ROLES,
    ("demographics", "sex"): SEXES,
}
_FILLED: Final = {
    "orgs": ("name", "type"),
    "academicSessions": ("title", "type"),
    "courses": ("title",),
    "classes": ("title", "school_sourced_id"),
    "users": ("roles",),
    "enrollments": ("user_sourced_id", "class_sourced_id", "role"),
    "demographics": (),
}
_SPANS: Final = {"academicSessions": "start_date", "enrollments": "begin_date"}
_ORDERED: Final = frozenset({"subjects", "subject_codes", "roles"})
"""Lists whose order means something."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one field of a record; `problem` never holds the value."""

    field: str
    problem: str
    code: Code


def find_problem(value: Any) -> Code | None:
    """What keeps a value, or anything in it, from being stored."""
    match value:
        case str() if len(value) > MAX_TEXT:
            return Code.FIELD_TOO_LONG
        case str():
            return None if "\0" not in value and _is_unicode(value) else Code.BAD_TEXT
        case None | bool() | int() | float() | date():
            return None
        case dict():
            parts: Iterable[Any] = [*value.keys(), *value.values()]
        case msgspec.Struct():
            parts = [getattr(value, name) for name in value.__struct_fields__]
        case _:
            parts = value
    return next((problem for part in parts if (problem := find_problem(part)) is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def can_be_new_id(sourced_id: str) -> bool:
    """Whether a sourcedId may be given to a new record: what goes into a path as it is, 255 characters at most."""
    return _NEW_ID.match(sourced_id) is not None


@lru_cache
def list_fields(kind: type[msgspec.Struct]) -> tuple[tuple[str, str], ...]:
    """The attributes of a kind of record, and their names on the wire."""
    return tuple((info.name, info.encode_name) for info in msgspec.structs.fields(kind))


def read_record(collection: str, fields: Any) -> tuple[Record | None, list[Fault]]:
    """A record written by hand, in its canonical form; or everything that is wrong with it.

    Args:
        collection: OneRoster's name of the collection.
        fields: the record as JSON would give it, with the names and types of `RECORD_TYPES`.

    Unknown fields are faults, and so is whatever a provider's record would be refused for.
    """
    kind = RECORD_TYPES[collection]
    if not isinstance(fields, dict):
        return None, [_fault("", "is no object")]
    if unknown := sorted(_list_unknown(kind, fields)):
        return None, [_fault(name[:80], "is not known") for name in unknown[:20]]
    try:
        record = msgspec.convert(fields, kind)
        faults = find_faults(collection, record)
        if not faults:
            record = tidy(record)
            if len(encode_record(record)) > MAX_RECORD_BYTES:
                faults = [_fault("metadata", "is too long", Code.FIELD_TOO_LONG)]
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        return None, [_fault(where.strip("`").removeprefix("$").lstrip("."), what[:200])]
    except (RecursionError, UnicodeEncodeError):
        return None, [_fault("", "is nested too deeply or holds text that can't be stored", Code.BAD_TEXT)]
    return (None, faults) if faults else (record, [])


def find_faults(collection: str, record: Record) -> list[Fault]:
    """Whatever is wrong with a record, field by field."""
    faults = [
        _fault(wire, code.entry.title, code)
        for name, wire in list_fields(type(record))
        if (code := find_problem(getattr(record, name))) is not None
    ]
    names = dict(list_fields(type(record)))
    filled = [names[name] for name in _FILLED[collection] if not getattr(record, name)]
    faults += [_fault(wire, "is missing or empty", Code.FIELD_MISSING) for wire in filled]
    for (owner, name), words in _WORDS.items():
        if owner == collection and (word := getattr(record, name)) and not _is_word(word, words):
            faults.append(_fault(names[name], f"is none of {', '.join(words)}", Code.BAD_ENUM))
    if (begin := _SPANS.get(collection)) and _is_reversed(getattr(record, begin), getattr(record, "end_date", None)):
        faults.append(_fault("endDate", "is before the beginning", Code.BAD_DATE))
    if isinstance(record, User):
        faults += _find_role_faults(record)
    return faults


def _find_role_faults(user: User) -> Iterator[Fault]:
    for number, role in enumerate(user.roles):
        if not _is_word(role.role, USER_ROLES):
            yield _fault(f"roles.{number}.role", f"is none of {', '.join(USER_ROLES)}", Code.BAD_ENUM)
        if role.role_type not in ROLE_TYPES:
            yield _fault(f"roles.{number}.roleType", f"is none of {', '.join(ROLE_TYPES)}", Code.BAD_ENUM)
        if not role.org_sourced_id:
            yield _fault(f"roles.{number}.orgSourcedId", "is missing or empty", Code.FIELD_MISSING)
        if _is_reversed(role.begin_date, role.end_date):
            yield _fault(f"roles.{number}.endDate", "is before the beginning", Code.BAD_DATE)
    if len(user.roles) > 1 and sum(role.role_type == "primary" for role in user.roles) != 1:
        yield _fault("roles", "needs exactly one with roleType primary")


def tidy(record: Record) -> Record:
    """A record as the same one from a provider would be: nothing for empty texts, lists without order sorted."""
    changed: dict[str, Any] = {}
    for name, _ in list_fields(type(record)):
        value = getattr(record, name)
        if value == "" and name not in ("given_name", "family_name"):
            changed[name] = None
        elif isinstance(value, tuple) and name == "roles":
            changed[name] = _sort_roles(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], UserId):
            changed[name] = tuple(sorted(set(value), key=lambda one: (one.type, one.identifier)))
        elif isinstance(value, tuple) and name in _ORDERED:
            changed[name] = tuple(text for item in value if (text := item.strip()))
        elif isinstance(value, tuple):
            changed[name] = tuple(sorted({text for item in value if (text := item.strip())}))
    if record.metadata == {}:
        changed["metadata"] = None
    return msgspec.structs.replace(record, **changed)


def _sort_roles(roles: tuple[Role, ...]) -> tuple[Role, ...]:
    """The primary one first; the only one is primary."""
    if len(roles) == 1:
        return (msgspec.structs.replace(roles[0], role_type="primary"),)
    return tuple(
        sorted(
            roles,
            key=lambda role: (
                role.role_type != "primary",
                role.org_sourced_id,
                role.role,
                str(role.begin_date),
                str(role.end_date),
            ),
        )
    )


def _list_unknown(kind: type[msgspec.Struct], fields: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    known = {wire for _, wire in list_fields(kind)}
    yield from (f"{prefix}{name}" for name in fields if name not in known)
    if kind is User:
        for wire, part in (("roles", Role), ("userIds", UserId)):
            entries = fields.get(wire)
            for number, entry in enumerate(entries if isinstance(entries, list) else ()):
                if isinstance(entry, dict):
                    yield from _list_unknown(part, entry, f"{wire}.{number}.")


def _is_word(word: str, words: Iterable[str]) -> bool:
    return word in words or EXTENSION.match(word) is not None


def _is_reversed(begin: date | None, end: date | None) -> bool:
    return begin is not None and end is not None and end < begin


def _fault(field: str, problem: str, code: Code = Code.RECORD_INVALID) -> Fault:
    return Fault(field or "record", problem, code)
