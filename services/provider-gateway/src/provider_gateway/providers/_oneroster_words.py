"""Single values of OneRoster, read tolerantly: words, dates, flags, lists; `BadValue` where that can't be done."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from functools import lru_cache

from homeroom import rules
from homeroom.codes import Code

_NO_LETTERS = re.compile(r"[^a-z0-9]")
_DATE = re.compile(r"\s*(\d{4})-(\d{2})-(\d{2})(?:[T ].*)?\s*\Z", re.DOTALL)

_TRUE = ("true", "1", "yes", "y", "t")
_FALSE = ("false", "0", "no", "n", "f")
FLAGS: dict[bool | str | int | None, bool | None] = {
    None: None,
    "": None,
    True: True,
    False: False,
    **{spelling: True for word in _TRUE for spelling in (word, word.upper(), word.capitalize())},
    **{spelling: False for word in _FALSE for spelling in (word, word.upper(), word.capitalize())},
}
"""Every way a provider is known to write yes, no and nothing."""


class BadValue(ValueError):  # noqa: N818 - what is wrong with a value, in the words of the catalogue
    """A value that can't be taken; `code` says why."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Words(dict[str | None, str]):
    """OneRoster's words of one enumeration; other spellings of them are found too (`Site Administrator`).

    1.2 knows fewer words in places, and has the others as extensions: `ext:aide` is 1.1's `aide`.
    """

    def __init__(self, words: Iterable[str], **synonyms: str) -> None:
        exact: dict[str | None, str] = {word: word for word in words}
        super().__init__(exact)
        self._squashed = {_NO_LETTERS.sub("", word.lower()): word for word in exact.values()} | synonyms

    def __missing__(self, word: str | None) -> str:
        if word is not None:
            if rules.EXTENSION.match(word):
                return word.removeprefix("ext:") if word.removeprefix("ext:") in self else word
            found = self._squashed.get(_NO_LETTERS.sub("", word.lower()))
            if found is not None:
                return found
        raise BadValue(Code.BAD_ENUM)


USER_ROLES = Words(rules.USER_ROLES)
ENROLLMENT_ROLES = Words(rules.ENROLLMENT_ROLES)
ORG_TYPES = Words(rules.ORG_TYPES)
SESSION_TYPES = Words(rules.SESSION_TYPES)
CLASS_TYPES = Words(rules.CLASS_TYPES)
SEXES = Words(rules.SEXES, m="male", f="female")
ROLE_TYPES = Words(rules.ROLE_TYPES)
GONE = {
    status: gone
    for word, gone in (("active", False), ("tobedeleted", True), ("inactive", True))
    for status in (word, word.upper(), word.capitalize())
} | {"toBeDeleted": True, "ToBeDeleted": True, "": False}
"""Whether a status means that the record is gone; `inactive` is OneRoster 1.0's word."""


@lru_cache(maxsize=32_768)
def read_date(text: str | None) -> date | None:
    """A calendar date; of a date-time the date it is written with."""
    if not text:
        return None
    match = _DATE.match(text)
    try:
        if match is None:
            raise BadValue(Code.BAD_DATE)
        return date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        raise BadValue(Code.BAD_DATE) from None


def read_flag(value: bool | str | int | None) -> bool | None:
    """A flag in any known spelling."""
    try:
        return FLAGS[value]
    except KeyError:
        raise BadValue(Code.BAD_ENUM) from None


def read_list(value: list[str] | str | None) -> tuple[str, ...]:
    """Texts in their order, without blanks; a single text is a list of one."""
    if not value:
        return ()
    if isinstance(value, str):
        value = [value]
    return tuple([text for item in value if (text := item.strip())])


@lru_cache(maxsize=4096)
def _split(text: str) -> tuple[str, ...]:
    return tuple(part for piece in text.split(",") if (part := piece.strip()))


def read_set(value: list[str] | str | None) -> tuple[str, ...]:
    """Texts whose order means nothing (grades, periods): split at commas, each once, sorted."""
    if not value:
        return ()
    if isinstance(value, str):
        return tuple(sorted(set(_split(value))))
    if len(value) == 1:
        parts = _split(value[0])
        return parts if len(parts) <= 1 else tuple(sorted(set(parts)))
    return tuple(sorted({part for item in value for part in _split(item)}))
