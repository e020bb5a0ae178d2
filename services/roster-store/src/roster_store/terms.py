"""What licenses come to, taken together: pure.

A product may have several licenses of an organization at once, bought one after the other. Their schools add up, but
a field is granted only where every one of them grants it: what is shown is never more than what somebody licensed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime

from homeroom.grants import FIELD_GROUPS, FieldGroup
from homeroom.messages import LicenseState


@dataclass(frozen=True, slots=True)
class AccessTerms:
    """What a product may see of an organization."""

    schools: tuple[str, ...] | None
    """sourcedIds, sorted; None for all."""
    grants: tuple[FieldGroup, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """What licenses come to at a moment, and until when that is so."""

    terms: AccessTerms | None
    """None where no license is in force."""
    until: datetime | None
    """The next moment at which a license begins or ends; None where none will."""


def combine(licenses: Collection[LicenseState], now: datetime) -> Access:
    """What a product's licenses of one organization come to now (D5, F3)."""
    lasting = [one for one in licenses if one.revoked_at is None or one.revoked_at > now]
    active = [one for one in lasting if one.valid_from <= now and (one.valid_until is None or now < one.valid_until)]
    turns = [moment for one in lasting for moment in _list_turns(one) if moment > now]
    return Access(_merge(active) if active else None, min(turns, default=None))


def _list_turns(one: LicenseState) -> Iterable[datetime]:
    """The moments at which a license changes what may be seen, if it comes to them."""
    ends = [moment for moment in (one.valid_until, one.revoked_at) if moment is not None]
    if not ends or one.valid_from < min(ends):
        yield one.valid_from
        if ends:
            yield min(ends)


def _merge(active: Collection[LicenseState]) -> AccessTerms:
    named = [one.schools for one in active if one.schools is not None]
    schools = None if len(named) < len(active) else tuple(sorted({school for some in named for school in some}))
    return AccessTerms(schools, tuple(group for group in FIELD_GROUPS if all(group in one.grants for one in active)))
