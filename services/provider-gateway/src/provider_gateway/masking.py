"""Fields a district hides from us, told from real values (pure; C13).

ClassLink's DataGuard and its like replace values by asterisks, blank them, or put the same text for everybody. Such a
value is no value: it is taken for absent before anything is compared, so that nobody is ever matched by it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

import msgspec

from homeroom.roster import Record, User

FIELDS: Final = {
    "username": "username",
    "identifier": "identifier",
    "user_master_identifier": "userMasterIdentifier",
    "email": "email",
    "sms": "sms",
    "phone": "phone",
    "given_name": "givenName",
    "family_name": "familyName",
    "middle_name": "middleName",
}
"""What identifies a person, by attribute and by OneRoster's name."""
FEWEST_PEOPLE: Final = 20
"""Among fewer people, a value they share may be chance."""

_NAMES: Final = ("given_name", "family_name")
_MASK = re.compile(
    r"\*{3}|[•█]{2}"
    r"|(?:\A|\x1f)(?:x{3,}(?:[-.@ ]x+)*|\W?(?:masked|redacted|obfuscated|hidden|confidential)\W?)(?:\Z|\x1f)",
    re.IGNORECASE,
)


def is_mask(value: str) -> bool:
    """Whether a text hides a value instead of being one.

    >>> [is_mask(text) for text in ("j***@district.example", "XXXX", "[REDACTED]", "Xander", "max@district.example")]
    [True, True, True, False, False]
    """
    return bool(_MASK.search(value))


def find_uniform(records: Sequence[Record]) -> frozenset[str]:
    """The attributes that hold one and the same value for everybody, if there are enough people to tell."""
    if len(records) < FEWEST_PEOPLE:
        return frozenset()
    return frozenset(
        name
        for name in FIELDS
        if (first := getattr(records[0], name)) and all(getattr(record, name) == first for record in records)
    )


def clear(records: list[Record], uniform: frozenset[str], masked: Counter[str]) -> list[Record]:
    """The users without masks and without what is alike for everybody; masks are counted by attribute."""
    if not uniform and not _MASK.search("\x1f".join([_text_of(record) for record in records])):
        return records
    return [_clear_one(record, uniform, masked) for record in records]


def _text_of(user: Record) -> str:
    assert isinstance(user, User)  # noqa: S101 - only users come here
    return (
        f"{user.username}\x1f{user.identifier}\x1f{user.user_master_identifier}\x1f{user.email}\x1f{user.sms}"
        f"\x1f{user.phone}\x1f{user.given_name}\x1f{user.family_name}\x1f{user.middle_name}"
    )


def _clear_one(user: Record, uniform: frozenset[str], masked: Counter[str]) -> Record:
    cleared: dict[str, str | None] = {}
    for name in FIELDS:
        value = getattr(user, name)
        if not value:
            continue
        if name in uniform:
            cleared[name] = "" if name in _NAMES else None
        elif is_mask(value):
            masked[name] += 1
            cleared[name] = "" if name in _NAMES else None
    return msgspec.structs.replace(user, **cleared) if cleared else user
