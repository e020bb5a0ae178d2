"""The district's people as portals know them: each portal has an id of its own for everybody."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Final

from sandbox_district.clever_records import Identities, name_users
from sandbox_district.district import District
from sandbox_district.records import Record

MOST_FOUND: Final = 12


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who can sign in at a portal.

    Args:
        key: what the sign-in page calls them; the sourcedId of whom the roster has.
        sourced_id: as OneRoster has it; None for whom the roster does not know.
        role: OneRoster's.
        user_id: ClassLink's number of them.
        clever_id: Clever's id of them.
        subject: what the district's own identity provider calls them.
        badge: what the code on their badge says.
    """

    key: str
    sourced_id: str | None
    given: str
    family: str
    role: str
    email: str | None
    username: str
    identifier: str | None
    schools: tuple[str, ...]
    user_id: int
    clever_id: str
    subject: str
    badge: str

    @property
    def name(self) -> str:
        """Given and family name."""
        return f"{self.given} {self.family}"


NEWCOMER: Final = Account(
    key="newcomer",
    sourced_id=None,
    given="Quinn",
    family="Unlisted",
    role="student",
    email=None,
    username="q.unlisted",
    identifier=None,
    schools=(),
    user_id=4_711_000_001,
    clever_id="f" * 24,
    subject="u-newcomer",
    badge="BADGE-NEWCOMER",
)
"""Somebody every portal knows and no roster does."""


class Directory:
    """Everybody who can sign in, as of the district's present day."""

    def __init__(self, district: District) -> None:
        self._district = district
        self._identities = Identities(district)
        self._accounts: dict[str, Account] | None = None
        district.watchers.append(self._forget)

    def find(self, key: str) -> Account | None:
        """Somebody by the key of their account."""
        return self._read().get(key)

    def find_badge(self, code: str) -> Account | None:
        """Somebody by what their badge says."""
        return next((each for each in self._read().values() if each.badge == code.strip().upper()), None)

    def find_clever(self, clever_id: str) -> Account | None:
        """Somebody by Clever's id."""
        return next((each for each in self._read().values() if each.clever_id == clever_id), None)

    def search(self, text: str, most: int = MOST_FOUND) -> list[Account]:
        """Those whose names, user names or roles hold all words of a text; without one, some of each role."""
        accounts = self._read().values()
        if words := text.casefold().split():
            return [each for each in accounts if all(word in _describe(each) for word in words)][:most]
        picked: list[Account] = []
        for role, number in (("student", most - 5), ("teacher", 2), ("administrator", 1), ("guardian", 1)):
            picked += [each for each in accounts if each.role == role and each is not NEWCOMER][:number]
        return [*picked, NEWCOMER]

    def list_classes(self, account: Account) -> list[str]:
        """The sourcedIds of the classes somebody is really enrolled in."""
        classes = self._district.active("classes")
        enrolled = {
            enrollment["class"]["sourcedId"]
            for enrollment in self._district.active("enrollments").values()
            if enrollment["user"]["sourcedId"] == account.sourced_id
        }
        return sorted(enrolled & classes.keys())

    def _forget(self) -> None:
        self._accounts = None

    def _read(self) -> dict[str, Account]:
        if self._accounts is None:
            self._identities.read_history()
            users = self._district.active("users")
            ids = name_users(users, self._identities)
            self._accounts = {key: _make_account(user, ids[key]) for key, user in users.items()}
            self._accounts[NEWCOMER.key] = NEWCOMER
        return self._accounts


def _make_account(user: Record, clever_id: str) -> Account:
    key: str = user["sourcedId"]
    return Account(
        key=key,
        sourced_id=key,
        given=user["givenName"],
        family=user["familyName"],
        role=user["role"],
        email=user.get("email") or None,
        username=user["username"],
        identifier=user.get("identifier"),
        schools=tuple(org["sourcedId"] for org in user.get("orgs") or ()),
        user_id=int(_digest("classlink", key)[:12], 16),
        clever_id=clever_id,
        subject=f"u-{_digest('idp', key)}",
        badge=f"BADGE-{_digest('badge', key)[:10].upper()}",
    )


def _describe(account: Account) -> str:
    return f"{account.name} {account.username} {account.role}".casefold()


def _digest(portal: str, key: str) -> str:
    return blake2b(f"{portal}/{key}".encode(), digest_size=8).hexdigest()
