"""Proves who somebody is by the password of a local account.

What is wrong is never told, and takes as long whatever it is. Only failures are counted: for a name and the address
they come from, and for the address alone. A browser in which the account signed in before is counted by itself, so
that nobody can lock somebody out of where they work by guessing elsewhere, nor a school by guessing inside it.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from homeroom.clock import Clock
from homeroom.db import Database
from sso.launch.flows import hash_token
from sso.launch.throttle import Throttle
from sso.staff.accounts import Accounts
from sso.staff.passwords import Passwords, read_username
from sso.statements import SQL

MOST_FAILURES: Final = 10
MOST_OF_ADDRESS: Final = 100
FORGOTTEN_SECONDS: Final = 600.0
_NOBODY: Final = UUID(int=0)


class LocalSignIn:
    """Checks usernames and passwords."""

    def __init__(self, database: Database, accounts: Accounts, passwords: Passwords, clock: Clock) -> None:
        self._database = database
        self._accounts = accounts
        self._passwords = passwords
        self._names = Throttle(MOST_FAILURES, FORGOTTEN_SECONDS, clock)
        self._addresses = Throttle(MOST_OF_ADDRESS, FORGOTTEN_SECONDS, clock)

    async def prove(self, username: str, password: str, address: str, browser: str) -> str | None:
        """The account's username if the password is its own and it is not disabled; None otherwise.

        Raises `Refused` SIGNIN_THROTTLED after too many failures.
        """
        name = read_username(username)
        account = None if name is None else await self._accounts.find_local(name)
        if account is not None and account.disabled_at is not None:
            account = None
        # Asked for names nobody has as well, so that the time taken does not tell which there are.
        known = await self._knows(_NOBODY if account is None else account.id, browser)
        key = f"{name}\n{browser if known else address}"
        self._names.check(key)
        if not known:
            self._addresses.check(address)
        right = await self._passwords.verify(password, None if account is None else account.password_hash)
        if account is None or not right:
            self._names.fail(key)
            if not known:
                self._addresses.fail(address)
            return None
        await self._database.fetch(SQL["know_browser"], account.id, hash_token(browser))
        return account.username

    async def _knows(self, account_id: UUID, browser: str) -> bool:
        return bool(await self._database.fetchval(SQL["knows_browser"], account_id, hash_token(browser)))
