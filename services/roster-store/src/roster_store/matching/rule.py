"""Who is matched with which account: the rule, written down plainly (pure; D3).

This is what `matcher` does in SQL, and what a test compares it with in many small worlds. The order is:

1. Whoever has an account keeps it, whatever changes about either. What people did by hand is never undone by the rule.
2. An account that names a person by sourcedId belongs to that person, if it names only that one, no other free account
   does, and their roles go together. Such an account is matched by nothing else.
3. Otherwise an e-mail address decides, if exactly one person of the whole organization and exactly one account of the
   product have it, and it is nobody's placeholder.
4. Whoever is left gets an account made for them, or stands in a list with the reason, as the product chose. Where an
   account may be theirs after all, none is made.

An account whose person has left the roster goes to somebody else only if the product names them, or if everything
says that they are the same person under a new sourcedId: the same address, and the same name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from roster_store.matching.addresses import AddressFault, find_fault, normalise

Role = Literal["student", "teacher", "staff", "guardian"]
Reason = AddressFault | Literal["unknown", "shared_email", "ambiguous", "role_conflict", "account_taken", "unlinked"]
How = Literal["manual", "sourced_id", "email", "created"]
Key = tuple[int, str]
"""An integration's number and a sourcedId."""

MAKABLE: Final[frozenset[Reason]] = frozenset({"no_email", "placeholder_email", "shared_email", "unknown"})
"""With these reasons no account can be theirs, so that one may be made."""
GUARDIANS: Final = frozenset({"guardian", "parent", "relative"})


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody in the organization's roster."""

    key: Key
    name: tuple[str, str] = ("", "")
    """Given and family name."""
    email: str | None = None
    roles: frozenset[str] = frozenset({"student"})
    active: bool = True
    seen: bool = True
    """Whether the product's license covers them."""
    joined: Key | None = None
    """Who of the SIS a person of Google Classroom is: not a person of their own then."""

    @property
    def address(self) -> str | None:
        """What they may be matched by."""
        found = normalise(self.email)
        return found if find_fault(found) is None else None

    def fits(self, role: Role | None) -> bool:
        """Whether an account of this role can be theirs."""
        if role is None:
            return True
        if role == "guardian":
            return bool(self.roles & GUARDIANS)
        return "student" in self.roles if role == "student" else bool(self.roles - GUARDIANS - {"student"})


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the product in the organization."""

    no: int
    email: str | None = None
    role: Role | None = None
    sourced_id: str | None = None
    integration_no: int | None = None
    """Where the sourcedId is from; None if the product does not know."""
    taken_up: bool = True
    """False for one that was made here and that the product has not given an id of its own."""

    @property
    def address(self) -> str | None:
        """What it may be matched by."""
        found = normalise(self.email)
        return found if find_fault(found) is None else None


@dataclass(frozen=True, slots=True)
class Link:
    """Whose an account is."""

    key: Key
    how: How


@dataclass(frozen=True, slots=True)
class World:
    """All there is to know: people also where they are not active any more."""

    people: Mapping[Key, Person]
    accounts: Mapping[int, Account]
    links: Mapping[int, Link]
    barred: frozenset[tuple[int, Key]] = frozenset()
    """Pairs that somebody took apart by hand."""


@dataclass(frozen=True, slots=True)
class Matches:
    """What becomes of it."""

    links: Mapping[int, Link]
    unmatched: Mapping[Key, Reason]
    replaced: frozenset[int]
    """Accounts that were made here, and whose people turned out to have one."""


def match(world: World) -> Matches:
    """Match everybody. Where the product wants accounts made, they are for those with a reason of `MAKABLE`."""
    links = _settle_joined(world)
    case = _Case(world, links)
    made = {link.key: no for no, link in links.items() if not world.accounts[no].taken_up}
    firm = {link.key for no, link in links.items() if world.accounts[no].taken_up}
    found: dict[int, Link] = {}
    unmatched: dict[Key, Reason] = {}
    for person in case.people.values():
        if not person.seen or person.key in firm:
            continue
        decided = case.decide(person)
        if isinstance(decided, tuple):
            no, how = decided
            found[no] = Link(person.key, how)
        elif person.key not in made:
            unmatched[person.key] = decided
    replaced = frozenset(made[link.key] for link in found.values() if link.key in made)
    kept = {no: link for no, link in links.items() if no not in replaced}
    return Matches(kept | found, unmatched, replaced)


def _settle_joined(world: World) -> dict[int, Link]:
    """Who turned out to be somebody of the SIS takes the account along, unless the other has one."""
    links = dict(world.links)
    for no, link in sorted(links.items()):
        person = world.people.get(link.key)
        if person is None or not person.active or person.joined is None:
            continue
        del links[no]
        if all(other.key != person.joined for other in links.values()):
            links[no] = Link(person.joined, link.how)
    return links


class _Case:
    """A world with what is asked of it again and again."""

    def __init__(self, world: World, links: Mapping[int, Link]) -> None:
        self.world = world
        self.links = links
        active = [person for person in world.people.values() if person.active]
        self.people = {person.key: person for person in active if person.joined is None}
        self.sharing = Counter(person.address for person in self.people.values())
        self.names: dict[int, set[Key]] = {no: self._find_named(one, active) for no, one in world.accounts.items()}

    def _find_named(self, account: Account, active: Iterable[Person]) -> set[Key]:
        """Whom an account says it belongs to."""
        keys = {
            person.joined or person.key
            for person in active
            if person.key[1] == account.sourced_id and account.integration_no in (None, person.key[0])
        }
        return {key for key in keys if key in self.people and self.people[key].seen}

    def _is_free(self, no: int) -> bool:
        return no not in self.links

    def _is_loose(self, no: int) -> bool:
        """Whether an account's person has left, and nobody tied the two by hand."""
        link = self.links.get(no)
        return link is not None and link.how != "manual" and link.key not in self.people

    def decide(self, person: Person) -> tuple[int, How] | Reason:
        """The account that is a person's, or why there is none."""
        claims = {
            no: {key for key in named if (no, key) not in self.world.barred}
            for no, named in self.names.items()
            if person.key in named and (no, person.key) not in self.world.barred
            if self.world.accounts[no].taken_up and (self._is_free(no) or self._is_loose(no))
        }
        if claims:
            (no, named), *others = sorted(claims.items())
            if others or len(named) > 1:
                return "ambiguous"
            return (no, "sourced_id") if person.fits(self.world.accounts[no].role) else "role_conflict"
        reason = self._match_address(person)
        if reason in MAKABLE and any(key == person.key for _, key in self.world.barred):
            return "unlinked"
        return reason

    def _match_address(self, person: Person) -> tuple[int, How] | Reason:
        if (fault := find_fault(normalise(person.email))) is not None:
            return fault
        same = [account for account in self.world.accounts.values() if account.address == person.address]
        offered = any(self._is_free(account.no) and not self.names[account.no] for account in same)
        if self.sharing[person.address] > 1:
            return "ambiguous" if offered else "shared_email"
        if not same:
            return "unknown"
        if len(same) > 1:
            return "ambiguous" if offered else "account_taken"
        return self._judge_only(person, same[0])

    def _judge_only(self, person: Person, account: Account) -> tuple[int, How] | Reason:
        """Whether the only account with somebody's address is theirs."""
        if (account.no, person.key) in self.world.barred:
            return "unlinked"
        left = self._is_loose(account.no) and self._is_same(self.links[account.no].key, person)
        if self.names[account.no] or not (self._is_free(account.no) or left):
            return "account_taken"
        return (account.no, "email") if person.fits(account.role) else "role_conflict"

    def _is_same(self, left: Key, person: Person) -> bool:
        """Whether somebody who left looks like the same person under another sourcedId."""
        other = self.world.people.get(left)
        if other is None or other.address != person.address:
            return False
        theirs, ours = (tuple(part.strip().lower() for part in one.name) for one in (other, person))
        return theirs == ours and all(theirs)
