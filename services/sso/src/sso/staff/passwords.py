"""Passwords of local accounts: checked in threads, a few at a time, and as slowly for names nobody has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Final, TypeVar

from homeroom.codes import Code
from homeroom.secrets import hash_password, verify_password
from sso.launch.flows import make_token
from sso.launch.refusals import Refused

USERNAME: Final = r"[a-z0-9][a-z0-9._-]{1,62}"
SHORTEST: Final = 12
LONGEST: Final = 200
AT_ONCE: Final = 2
"""How many are checked at the same time: each takes 50 ms of a processor and 16 MB."""
MOST_WAITING: Final = 20
WAIT_SECONDS: Final = 5.0

T = TypeVar("T")


def read_username(text: str) -> str | None:
    """A username as somebody typed it; None if nobody can have it."""
    plain = text.strip().lower()
    return plain if re.fullmatch(USERNAME, plain) else None


def object_to(username: str, password: str) -> str | None:
    """What is wrong with a password to be; None if nothing is."""
    if not SHORTEST <= len(password) <= LONGEST:
        return f"A password has {SHORTEST} to {LONGEST} characters."
    if username in password.lower() or len(set(password)) < 5:  # noqa: PLR2004 - fewer can be guessed by hand
        return "Choose one that is not made of your username or of the same few characters."
    return None


class Passwords:
    """Checks and hashes passwords without holding up anybody else."""

    def __init__(self) -> None:
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobody = hash_password(make_token())  # made at start: the first who asks must not take longer

    async def verify(self, password: str, hashed: str | None) -> bool:
        """Whether the password is the one that was hashed. Without a hash it takes as long, and is not.

        Raises `Refused` SIGNIN_THROTTLED where too many wait already.
        """
        found = await self._work(verify_password, password[: LONGEST + 1], hashed or self._nobody)
        return found and hashed is not None and len(password) <= LONGEST

    async def hash(self, password: str) -> str:
        """What is kept of a password. Raises `Refused` as `verify` does."""
        return await self._work(hash_password, password)

    async def _work(self, work: Callable[..., T], *args: str) -> T:
        if self._waiting >= MOST_WAITING:
            raise Refused(Code.SIGNIN_THROTTLED, "too many passwords are being checked", status=503)
        self._waiting += 1
        try:
            async with asyncio.timeout(WAIT_SECONDS), self._turn:
                return await asyncio.to_thread(work, *args)
        except TimeoutError:
            raise Refused(Code.SIGNIN_THROTTLED, "too many passwords are being checked", status=503) from None
        finally:
            self._waiting -= 1
