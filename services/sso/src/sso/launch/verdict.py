"""Who is it, and may they come in? Decided on facts alone; `sso.launch.identification` gathers them (E4, D5, C8).

A portal's user id is tied to somebody of the roster once, and found by it from then on; what the portal says about the
roster is compared with that each time. Only the roster says who somebody is and what they may: e-mail addresses and
roles of the portal play no part.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal
from uuid import UUID

from homeroom.codes import Code
from homeroom.people import PersonAnswer, PersonField, RosterPerson


@dataclass(frozen=True, slots=True)
class Known:
    """Whom a portal's user id was tied to before.

    Args:
        person_id: sso's own id of them.
        sourced_id: what the connection's roster calls them, as far as we know; None if it does not know them.
        aliases: what it called them before.
        elsewhere: whether another roster knows them: the connection had that one before.
    """

    person_id: UUID
    sourced_id: str | None
    aliases: frozenset[str] = frozenset()
    elsewhere: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who it is, or why nobody is signed in.

    Args:
        refusal: why not; None if they may come in.
        why: a word of ours for the trace.
        person: whom the roster knows; None with a refusal, and for whom no roster knows.
        tie: what is to be written down: nothing; that this portal user is somebody new (`new`); that a person we know
            has another sourcedId now (`renamed`); or that the portal user is another person from now on (`moved`).
        leads_to: the sourcedId of whom the portal's key leads to, where that is not whom its user is tied to and both
            are there: an admin settles it (`sso.connections.identities`).
    """

    refusal: Code | None
    why: str
    person: RosterPerson | None = None
    tie: Literal["kept", "new", "renamed", "moved"] = "kept"
    leads_to: str | None = None


def refuse(code: Code, why: str) -> Verdict:
    """Nobody is signed in."""
    return Verdict(code, why)


def identify(
    known: Known | None,
    key: str | None,
    by_key: PersonAnswer | None,
    by_tie: PersonAnswer | None,
    *,
    field: PersonField = "sourcedId",
    rostering: Literal["required", "optional"],
) -> Verdict:
    """Who it is, of what a portal sent, what we tied before, and what the roster says now.

    Args:
        known: whom the portal's user id is tied to.
        key: what the portal sent to compare with the roster.
        by_key: what the store answered for it; None if there was no key.
        by_tie: what it answered for the tie's sourcedId, if that was asked.
        field: what the key is; only sourcedIds are compared with those we know.
        rostering: whether people the roster does not know may come in; those it knows are never taken for strangers.
    """
    if by_key is not None and by_key.outcome == "ambiguous":
        return refuse(Code.SIGNIN_AMBIGUOUS, "several people of the roster have this key")
    found = by_key.person if by_key is not None and by_key.outcome == "known" else None
    if known is None or known.sourced_id is None:
        tie: Literal["new", "renamed"] = "new" if known is None else "renamed"
        if found is not None:
            return Verdict(None, "found by the portal's key", found, tie)
        rostered = known is not None and known.elsewhere
        return _miss(by_key, "new" if known is None else "kept", "required" if rostered else rostering)
    if found is not None:
        return _compare(known.sourced_id, found, by_tie)
    return _go_by_tie(known, key if field == "sourcedId" or key is None else "", by_key, by_tie)


def _compare(tied: str, found: RosterPerson, by_tie: PersonAnswer | None) -> Verdict:
    """The portal's key leads to somebody: is it whom we tied before?"""
    if found.sourced_id == tied:
        return Verdict(None, "as before", found)
    there = by_tie is not None and by_tie.outcome in ("known", "hidden", "ambiguous")
    if tied in found.formerly and not there:
        return Verdict(None, "the roster calls this person by another sourcedId now", found, "renamed")
    if there:
        why = "the portal's user was another person of the roster until now"
        return Verdict(Code.SIGNIN_AMBIGUOUS, why, leads_to=found.sourced_id)
    return Verdict(None, "the portal's user is another person of the roster now", found, "moved")


def _go_by_tie(known: Known, key: str | None, by_key: PersonAnswer | None, by_tie: PersonAnswer | None) -> Verdict:
    """The portal's key leads to nobody: is it one the person had before, or was none sent?

    Somebody who was rostered is never let in as a stranger, and a key that is somebody's, if hidden, is not an old one.
    """
    tied = by_tie.person if by_tie is not None and by_tie.outcome == "known" else None
    if tied is not None and key is None:
        return Verdict(None, "by the tie", tied)
    nobodys = by_key is not None and by_key.outcome in ("unknown", "removed")
    if tied is not None and nobodys and key in {known.sourced_id, *known.aliases, *tied.formerly}:
        return Verdict(None, "by an earlier sourcedId", tied)
    return _miss(by_tie if key is None else by_key, "kept", "required")


def _miss(
    answer: PersonAnswer | None, tie: Literal["kept", "new"], rostering: Literal["required", "optional"]
) -> Verdict:
    match None if answer is None else answer.outcome:
        case "removed":
            return refuse(Code.SIGNIN_REMOVED, "not active in the roster any more")
        case "hidden":
            return refuse(Code.SIGNIN_UNLICENSED, "at no school the product is licensed for")
    if rostering == "optional":
        return Verdict(None, "not in the roster, which this connection allows", None, tie)
    why = "the portal sent nothing to compare with the roster" if answer is None else "not in the roster"
    return refuse(Code.SIGNIN_NOT_ROSTERED, why)


def check_age(applied_at: datetime | None, now: datetime, max_age_hours: int | None, *, deleted: bool) -> bool:
    """Whether a roster is recent enough to go by. One whose integration was deleted is, for good (C8)."""
    if max_age_hours is None or deleted:
        return True
    return applied_at is not None and now - applied_at <= timedelta(hours=max_age_hours)
