"""OneRoster rows as they come over the wire, whatever exact shape a provider gives them.

A page is decoded once into typed rows that cover what most providers send (`PageDecoder`, the fast way). Only a page
that does not fit is decoded again without types and repaired row by row (`Repairer`), so that one odd record costs its
page some time and nobody else anything. Both ways end in the same row classes, and so in the same records.

Fields OneRoster does not know are kept: their names are learned from the first page that has them, and from then on
decoded as typed fields too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET, Raw

from homeroom.codes import Code
from provider_gateway.failures import ProviderError, RecordProblem

_MAX_LEARNED_NAMES = 48
_MAX_NAME = 64
_MAX_DIGITS = 40


class Ref(msgspec.Struct, rename="camel", gc=False):
    """A GUIDRef; only its sourcedId is of use, for hrefs point anywhere."""

    sourced_id: str


class UserIdRow(msgspec.Struct, rename="camel", gc=False):
    """One of a user's identifiers."""

    type: str | None = None
    identifier: str | None = None


class RoleRow(msgspec.Struct, rename="camel", gc=False):
    """One of a user's roles, as OneRoster 1.2 has them (and some 1.1 providers)."""

    role: str | None = None
    role_type: str | None = None
    org: Ref | None = None
    begin_date: str | None = None
    end_date: str | None = None


Text = str | None
Flag = bool | str | int | None
Texts = list[str] | str | None
Number = str | int | None
Refs = list[Ref] | None
Object = dict[str, Any] | None
UserIds = list[UserIdRow] | None
Roles = list[RoleRow] | None


class Row(msgspec.Struct, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """What every row may have. All is optional here: what must be there is asked for when the record is made."""

    sourced_id: Text = None
    status: Text = None
    date_last_modified: Any = None
    metadata: Object = None
    href: Any = None


class OrgRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """An org."""

    name: Text = None
    type: Text = None
    identifier: Text = None
    parent: Ref | None = None
    children: Raw = Raw()


class AcademicSessionRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """An academic session."""

    title: Text = None
    type: Text = None
    start_date: Text = None
    end_date: Text = None
    parent: Ref | None = None
    children: Raw = Raw()
    school_year: Number = None


class CourseRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """A course."""

    title: Text = None
    course_code: Text = None
    school_year: Ref | None = None
    org: Ref | None = None
    grades: Texts = None
    subjects: Texts = None
    subject_codes: Texts = None
    resources: Raw = Raw()


class ClassRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """A class."""

    title: Text = None
    class_code: Text = None
    class_type: Text = None
    location: Text = None
    school: Ref | None = None
    course: Ref | None = None
    terms: Refs = None
    grades: Texts = None
    subjects: Texts = None
    subject_codes: Texts = None
    periods: Texts = None
    resources: Raw = Raw()


class UserRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """A user, as 1.1 or 1.2 has it, or both at once. Passwords and profiles (with credentials) are not looked at."""

    username: Text = None
    enabled_user: Flag = None
    given_name: Text = None
    family_name: Text = None
    middle_name: Text = None
    preferred_first_name: Text = None
    preferred_middle_name: Text = None
    preferred_last_name: Text = None
    pronouns: Text = None
    role: Text = None
    orgs: Refs = None
    roles: Roles = None
    primary_org: Ref | None = None
    identifier: Text = None
    user_master_identifier: Text = None
    email: Text = None
    sms: Text = None
    phone: Text = None
    user_ids: UserIds = None
    agents: Refs = None
    grades: Texts = None
    password: Raw = Raw()
    user_profiles: Raw = Raw()
    resources: Raw = Raw()


class EnrollmentRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """An enrollment."""

    user: Ref | None = None
    class_: Ref | None = msgspec.field(default=None, name="class")
    school: Ref | None = None
    role: Text = None
    primary: Flag = None
    begin_date: Text = None
    end_date: Text = None


class DemographicsRow(Row, kw_only=True, rename="camel", gc=False, forbid_unknown_fields=True):
    """A user's demographics."""

    birth_date: Text = None
    sex: Text = None
    american_indian_or_alaska_native: Flag = None
    asian: Flag = None
    black_or_african_american: Flag = None
    native_hawaiian_or_other_pacific_islander: Flag = None
    white: Flag = None
    demographic_race_two_or_more_races: Flag = None
    hispanic_or_latino_ethnicity: Flag = None
    country_of_birth_code: Text = None
    state_of_birth_abbreviation: Text = None
    city_of_birth: Text = None
    public_school_residence_status: Text = None


ROW_TYPES: dict[str, type[Row]] = {
    "orgs": OrgRow,
    "academicSessions": AcademicSessionRow,
    "courses": CourseRow,
    "classes": ClassRow,
    "users": UserRow,
    "enrollments": EnrollmentRow,
    "demographics": DemographicsRow,
}

_SIDE_LISTS = frozenset({"statusInfoSet", "statusInfo", "warnings", "links", "errors"})
_MAJOR_WORDS = ("imsx_codeMajor", "codeMajor")
_FAILURES = frozenset({"failure", "unsupported", "error"})


class DecodedPage(msgspec.Struct):
    """The rows of a page, those that could not even be read, and how many rows there were."""

    rows: Sequence[Row]
    refused: list[RecordProblem]
    received: int
    odd: bool = False
    """Whether it had to be read without types, which lets texts through that can't be stored."""


class PageDecoder:
    """Decodes pages of one collection of one provider; it learns which further fields that provider has."""

    def __init__(self, collection: str) -> None:
        self.collection = collection
        self.learned: tuple[tuple[str, str], ...] = ()
        """(attribute, name on the wire) of fields beyond OneRoster's."""
        self._row_type = ROW_TYPES[collection]
        self._prepare()

    def decode(self, body: bytes) -> DecodedPage:
        """The rows of a page; PROV_BAD_PAYLOAD if it holds no list of records."""
        try:
            rows = self._decode_wrapped(body) if body.lstrip()[:1] == b"{" else self._bare.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._decode_oddities(body)
        if rows is None:  # another wrapper key, or an error in the guise of an answer
            return self._decode_oddities(body)
        return DecodedPage(rows, [], len(rows))

    def decode_single(self, body: bytes) -> DecodedPage:
        """The one record of an answer to a question by id, as a page of one."""
        found = _load(body)
        inner = [value for value in found.values() if isinstance(value, dict)] if isinstance(found, dict) else []
        if isinstance(found, dict) and "sourcedId" in found:
            inner = [found]
        if len(inner) != 1:
            rows = _find_rows(found)
            if len(rows) != 1:
                raise _bad_payload("it held no single record")
            inner = rows
        return self._repair_all(inner)

    def _prepare(self) -> None:
        row_type: Any = self._row_type
        self._repairer = Repairer(row_type)
        page_type = msgspec.defstruct(
            "Page",
            [
                ("rows", list[row_type] | None, msgspec.field(default=None, name=self.collection)),
                ("major", Any, msgspec.field(default=None, name=_MAJOR_WORDS[0])),
            ],
            gc=False,
        )
        self._wrapped = msgspec.json.Decoder(page_type)
        self._bare: msgspec.json.Decoder[list[Row]] = msgspec.json.Decoder(list[row_type])

    def _decode_wrapped(self, body: bytes) -> list[Row] | None:
        page: Any = self._wrapped.decode(body)
        return page.rows if page.major is None else None

    def _decode_oddities(self, body: bytes) -> DecodedPage:
        rows = _find_rows(_load(body))
        self._learn(rows)
        return self._repair_all(rows)

    def _learn(self, rows: list[Any]) -> None:
        known = {field.encode_name for field in msgspec.structs.fields(self._row_type)}
        names: list[str] = []
        for row in rows:
            if isinstance(row, dict):
                names += [name for name in row if name not in known and len(name) <= _MAX_NAME]
                known.update(names)
        names = names[: _MAX_LEARNED_NAMES - len(self.learned)]
        if not names:
            return
        start = len(self.learned)
        pairs = [(f"further_{start + number}", name) for number, name in enumerate(names)]
        self.learned += tuple(pairs)
        self._row_type = cast(
            "type[Row]",
            msgspec.defstruct(
                ROW_TYPES[self.collection].__name__,
                [(attribute, Any, msgspec.field(default=UNSET, name=name)) for attribute, name in self.learned],
                bases=(ROW_TYPES[self.collection],),
                kw_only=True,
                gc=False,
                forbid_unknown_fields=True,
            ),
        )
        self._prepare()

    def _repair_all(self, found: list[Any]) -> DecodedPage:
        rows: list[Row] = []
        refused: list[RecordProblem] = []
        for row in found:
            try:
                rows.append(self._repairer.repair(row))
            except RecordProblem as problem:
                refused.append(problem)
        return DecodedPage(rows, refused, len(found), odd=True)


def list_rows(body: bytes) -> list[Any]:
    """The rows of a page as they came, without looking at them; PROV_BAD_PAYLOAD if it holds no list of records."""
    return _find_rows(_load(body))


def _load(body: bytes) -> Any:
    """JSON without types, read as generously as possible: what can't be stored is refused record by record later."""
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        text = body.decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        return json.loads(text, parse_int=_read_integer, parse_constant=lambda _name: None)
    except (ValueError, RecursionError):
        raise _bad_payload("it was cut off, or is not JSON") from None


def _read_integer(digits: str) -> int | str:
    return int(digits) if len(digits) <= _MAX_DIGITS else digits


def _find_rows(found: Any) -> list[Any]:
    """The list of records in an answer: bare, under the collection's name, or under whatever name it has."""
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        raise _bad_payload("it is neither a list nor an object")
    if (
        found.get("error")
        or found.get("errors")
        or any(str(found.get(word)).lower() in _FAILURES for word in _MAJOR_WORDS)
    ):
        raise _bad_payload("it is an error message with status 200")
    lists = [value for name, value in found.items() if isinstance(value, list) and name not in _SIDE_LISTS]
    if len(lists) != 1:
        raise _bad_payload("it holds no list of records")
    return list(lists[0])


def _bad_payload(why: str) -> ProviderError:
    return ProviderError(Code.PROV_BAD_PAYLOAD, f"The provider's answer could not be understood: {why}.")


# ── repairing a row whose fields have other types than most ───────────────────────────────────────────────────────


class Repairer:
    """Makes rows of one class from JSON objects whose fields may have unusual types."""

    def __init__(self, row_type: type[Row]) -> None:
        self._row_type = row_type
        self._fields = {
            field.encode_name: (field.name, _COERCERS.get(field.type))
            for field in msgspec.structs.fields(row_type)
            if field.type is not Raw
        }
        self._ignored = {field.encode_name for field in msgspec.structs.fields(row_type) if field.type is Raw}

    def repair(self, found: Any) -> Row:
        """A row, or `RecordProblem` where none can be made of it."""
        if not isinstance(found, dict):
            raise RecordProblem(Code.RECORD_INVALID)
        values: dict[str, Any] = {}
        further: dict[str, Any] = {}
        for name, value in found.items():
            if name in self._ignored:
                continue
            attribute, coerce = self._fields.get(name, ("", None))
            if not attribute:
                further[name] = value
                continue
            try:
                values[attribute] = coerce(value) if coerce else value
            except ValueError:
                problem = RecordProblem(
                    Code.RECORD_INVALID, field=name, sourced_id=_reported_id(found.get("sourcedId"))
                )
                raise problem from None
        if further:
            values["metadata"] = further | (values.get("metadata") or {})
        return self._row_type(**values)


def _reported_id(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    raise ValueError


def _as_flag(value: Any) -> Flag:
    if value is None or isinstance(value, bool | str | int):
        return value
    raise ValueError


def _as_number(value: Any) -> Number:
    return value if isinstance(value, int) else _as_text(value)


def _as_texts(value: Any) -> Texts:
    if isinstance(value, list):
        return [text for item in value if (text := _as_text(item)) is not None]
    return _as_text(value)


def _as_ref(value: Any) -> Ref | None:
    if isinstance(value, dict):
        value = value.get("sourcedId")
    elif isinstance(value, list) and len(value) <= 1:
        return _as_ref(value[0]) if value else None
    text = _as_text(value)
    return Ref(text) if text else None


def _as_refs(value: Any) -> Refs:
    found = value if isinstance(value, list) else [value]
    return [ref for item in found if (ref := _as_ref(item)) is not None]


def _as_object(value: Any) -> Object:
    if isinstance(value, dict):
        return value
    return {"metadata": value} if value else None  # an empty list is how some write an empty object


def _as_user_ids(value: Any) -> UserIds:
    found = value if isinstance(value, list) else [value]
    rows = []
    for item in found:
        if isinstance(item, dict):
            rows.append(UserIdRow(_as_text(item.get("type")), _as_text(item.get("identifier"))))
        elif (text := _as_text(item)) is not None:
            rows.append(UserIdRow("", text))
    return rows


def _as_roles(value: Any) -> Roles:
    if value is None:
        return None
    rows = []
    for item in value if isinstance(value, list) else [value]:
        if not isinstance(item, dict):
            rows.append(RoleRow(_as_text(item)))
            continue
        texts = {name: _as_text(item.get(name)) for name in ("role", "roleType", "beginDate", "endDate")}
        org = _as_ref(item.get("org"))
        rows.append(RoleRow(texts["role"], texts["roleType"], org, texts["beginDate"], texts["endDate"]))
    return rows


_COERCERS: dict[Any, Callable[[Any], Any]] = {
    Text: _as_text,
    Flag: _as_flag,
    Number: _as_number,
    Texts: _as_texts,
    Ref | None: _as_ref,
    Refs: _as_refs,
    Object: _as_object,
    UserIds: _as_user_ids,
    Roles: _as_roles,
}
