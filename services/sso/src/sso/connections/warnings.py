"""What an admin should look after before people stand in front of a door that does not open. Decided on facts alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from homeroom.codes import Code

SOON: Final = timedelta(days=60)
UNREAD: Final = timedelta(days=1)
"""Metadata that can't be read for less is nobody's trouble yet."""
TELL_AGAIN: Final = (60, 14, 2, 0)
"""Days before its end at which a certificate is told of as an alert; 0 is when it has run out."""


@dataclass(frozen=True, slots=True)
class Warned:
    """A warning: its code says what it is, the message how it is here."""

    code: Code
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What warnings are made of.

    Args:
        certificate_ends: when each pinned certificate runs out.
        sha1_until: until when signatures with SHA-1 are allowed.
        change_found_at: since when a change of metadata waits.
        failing_since: since when metadata can't be read.
        problem: why not.
        sealed: secrets, as sealed.
        key_id: the name of the key that secrets are sealed to now.
    """

    certificate_ends: Sequence[datetime] = ()
    sha1_until: datetime | None = None
    change_found_at: datetime | None = None
    failing_since: datetime | None = None
    problem: str | None = None
    sealed: Sequence[str | None] = ()
    key_id: str = ""


def warn(facts: Facts, now: datetime) -> list[Warned]:
    """What is to be looked after, the most urgent first."""
    found = [Warned(*one) for one in _warn_of_certificates(facts.certificate_ends, now)]
    if facts.change_found_at is not None:
        message = (
            f"Since {_day(facts.change_found_at)} its metadata differs from what was accepted; look at the change."
        )
        found.append(Warned(Code.METADATA_CHANGED, message))
    if facts.failing_since is not None and now - facts.failing_since > UNREAD:
        message = f"Its metadata can't be read since {_day(facts.failing_since)}: {facts.problem or 'no answer.'}"
        found.append(Warned(Code.METADATA_UNREAD, message))
    if facts.sha1_until is not None and facts.sha1_until > now:
        found.append(Warned(Code.WEAK_SIGNATURES, f"Signatures with SHA-1 are taken until {_day(facts.sha1_until)}."))
    if any(one is not None and one.partition(".")[0] != facts.key_id for one in facts.sealed):
        found.append(Warned(Code.SEALED_TO_OLD_KEY, "Its secret is sealed to an earlier key of this service."))
    return found


def list_told(ends: Sequence[datetime], now: datetime) -> list[tuple[Code, str]]:
    """Which alerts are due for certificates: the code, and what makes it another alert than those before."""
    found = []
    in_force = [end for end in ends if end > now]
    for end in sorted(set(ends)):
        if end <= now:
            if not in_force and end == max(ends):
                found.append((Code.CERTIFICATE_EXPIRED, f"certificate:{end.isoformat()}:0"))
            continue
        due = [days for days in TELL_AGAIN if days and end - now <= timedelta(days=days)]
        if due:
            found.append((Code.CERTIFICATE_EXPIRES, f"certificate:{end.isoformat()}:{min(due)}"))
    return found


def _warn_of_certificates(ends: Sequence[datetime], now: datetime) -> list[tuple[Code, str]]:
    found = []
    in_force = [end for end in ends if end > now]
    for end in sorted(ends):
        if end <= now:
            rest = "another one is in force; take this one away." if in_force else "nobody gets in by this connection."
            found.append((Code.CERTIFICATE_EXPIRED, f"A certificate ran out on {_day(end)}; {rest}"))
        elif end - now <= SOON:
            longer = max(ends) > end
            rest = " Another one holds longer: make sure that the provider signs with it by then." if longer else ""
            days = (end - now).days
            found.append((Code.CERTIFICATE_EXPIRES, f"A certificate runs out on {_day(end)}, in {days} days.{rest}"))
    return found


def _day(moment: datetime) -> str:
    return moment.date().isoformat()
