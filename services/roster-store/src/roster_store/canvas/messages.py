"""What Canvas says about an import, with nobody in it (pure).

Its messages quote names, logins and cells. Of them only words are kept that Canvas' messages are known to be made of;
whatever else stands in one becomes `…`. File and row say which record it is about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

MOST_MESSAGES: Final = 200
_LONGEST: Final = 300
_VOCABULARY: Final = """
a about account account_id accounts active after again against all already an and another any are as at be
because been before being blank but by can cannot canvas change changed changes claimed column columns completed
conflicting contact correctly could course course_id courses created csv data date deleted did diff difference
diffing disabled does due duplicate duplicated email empty encoding end enrolled enrolling enrollment
enrollments error errors exceeded exist existing exists failed field file files for format found from given has
have header headers id identifier ignored import imported importing improper in inactive inferred information
integration invalid is it its linked locked login login_id logins long malformed match matched merged missing
more multiple must name names new no non non-existent nonexistent not observer observer_id observers of on one
only or other parent password performed please previous process processed provided records referenced references
remaster requested required restored role roles root row rows school section section_id sections set short sis
size skipped skipping start started status student student_id students such support suspended taken teacher term
term_id terms than that the there this threshold timestamp to too try type unable unexpected unique unknown
unrecognized updated use used user user_id users utf utf-8 valid value values was were when while will with
without wrong zip
"""
_WORDS: Final = frozenset(_VOCABULARY.split())
_CAPITALS: Final = frozenset({"CSV", "Canvas", "ID", "SIS", "UTF"})
"""Words that stand with capitals within a sentence; any other word with one may be a name (Will, Long)."""
_AROUND: Final = ".,;:()"
_FILE: Final = re.compile(r"[a-z_]{1,40}\.csv")
_ROW: Final = re.compile(r"\b(?:row|line) (\d{1,9})\b", re.IGNORECASE)

Severity = Literal["warning", "error"]


@dataclass(frozen=True, slots=True)
class Said:
    """One message."""

    severity: Severity
    file: str | None
    row: int | None
    message: str


def redact(message: str) -> str:
    """A message without whatever it quotes.

    >>> redact("user Mila Ek has already claimed mila7's requested login information, skipping")
    'user … has already claimed … requested login information, skipping'
    """
    kept: list[str] = []
    for word in message[:2_000].split():
        core = word.strip(_AROUND)
        plain = (core.islower() or core in _CAPITALS or not kept) and core.lower() in _WORDS
        end = word[len(word.rstrip(_AROUND)) :]
        shown = word if plain or not core else f"…{end}"
        if shown[:1] != "…" or not kept or kept[-1] != "…":
            kept.append(shown)
    return " ".join(kept)[:_LONGEST]


def read_messages(warnings: Iterable[Any], errors: Iterable[Any]) -> list[Said]:
    """What Canvas said, errors first, at most `MOST_MESSAGES`; what it sent in another shape is passed over."""
    kinds: tuple[tuple[Severity, Iterable[Any]], ...] = (("error", errors), ("warning", warnings))
    said = [
        _read(severity, entry)
        for severity, entries in kinds
        for entry in entries
        if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], str)  # noqa: PLR2004 - file and message
    ]
    return said[:MOST_MESSAGES]


def _read(severity: Severity, entry: Sequence[Any]) -> Said:
    name, message = entry
    file = name if isinstance(name, str) and _FILE.fullmatch(name) else None
    row = _ROW.search(message)
    return Said(severity, file, int(row[1]) if row else None, redact(message))


def as_rows(said: Iterable[Said]) -> list[dict[str, Any]]:
    """Messages as they are kept."""
    return [asdict(one) for one in said]
