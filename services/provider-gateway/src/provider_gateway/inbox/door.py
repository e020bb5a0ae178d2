"""Who is let in: passwords and keys of accounts, checked slowly, and seldom enough that guessing leads nowhere."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import secrets
from collections import OrderedDict, deque
from dataclasses import dataclass, field

import asyncssh

from homeroom.clock import Clock
from homeroom.secrets import hash_password, verify_password
from homeroom.telemetry import get_logger
from provider_gateway.inbox.accounts import Directory

FAILURES_PER_ADDRESS = 20
FAILURES_PER_ACCOUNT = 10
FAILURE_SECONDS = 300.0
"""So many wrong passwords within so many seconds, and no further one is looked at until some are older."""
_REMEMBERED = 10_000
_AT_ONCE = 2
"""Hashing takes a processor and tens of megabytes."""
_IN_LINE = 32

log = get_logger(__name__)


@dataclass(slots=True)
class Throttle:
    """Counts failures by some key; the oldest keys are forgotten where there are too many."""

    limit: int
    seconds: float
    clock: Clock
    _failures: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)

    def allows(self, key: str) -> bool:
        """Whether another attempt may be made."""
        found = self._failures.get(key)
        if found is None:
            return True
        while found and found[0] <= self.clock.monotonic() - self.seconds:
            found.popleft()
        return len(found) < self.limit

    def count(self, key: str) -> None:
        """Take note of a failure."""
        found = self._failures.setdefault(key, deque(maxlen=self.limit))
        found.append(self.clock.monotonic())
        self._failures.move_to_end(key)
        if len(self._failures) > _REMEMBERED:
            self._failures.popitem(last=False)


class Door:
    """Checks passwords and keys against the directory."""

    def __init__(self, directory: Directory, clock: Clock) -> None:
        self._directory = directory
        self._addresses = Throttle(FAILURES_PER_ADDRESS, FAILURE_SECONDS, clock)
        self._accounts = Throttle(FAILURES_PER_ACCOUNT, FAILURE_SECONDS, clock)
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()
        """Pairs of account and address that got in before: strangers can't lock those out by guessing."""
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._in_line = 0
        self._decoy = hash_password(secrets.token_urlsafe(16))
        """What passwords of accounts that don't exist are compared with, so that they take as long."""

    async def check_password(self, username: str, password: str, address: str) -> bool:
        """Whether this is the account's password. False without looking where there were too many wrong ones."""
        where = network_of(address)
        name = username[:64]
        crowded = self._in_line >= _IN_LINE
        guessed = not self._accounts.allows(name) and (name, where) not in self._known
        if crowded or guessed or not self._addresses.allows(where):
            log.warning("sign-in refused without a look", why="crowded" if crowded else "too many wrong passwords")
            return False
        state = self._directory.account(username)
        stored = state.sftp.password_hash if state is not None and state.sftp is not None else None
        self._in_line += 1
        try:
            async with self._turns:
                right = await asyncio.to_thread(verify_password, password, stored or self._decoy)
        finally:
            self._in_line -= 1
        if right and stored is not None and state == self._directory.account(username):
            self._remember(name, where)
            return True
        self._addresses.count(where)
        self._accounts.count(name)
        return False

    def check_key(self, username: str, offered: bytes) -> bool:
        """Whether this public key (its bytes in SSH's form) is one of the account's."""
        state = self._directory.account(username)
        held = state.sftp.public_keys if state is not None and state.sftp is not None else ()
        return any([hmac.compare_digest(_read_key(text), offered) for text in held])  # noqa: C419 - looks at all of them

    def _remember(self, name: str, where: str) -> None:
        self._known[name, where] = None
        self._known.move_to_end((name, where))
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)


def network_of(address: str) -> str:
    """What counts as one address: for IPv6 the network, for whoever has one address has all of them."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        return str(mapped) if mapped else str(ipaddress.ip_network((int(found), 64), strict=False))
    return str(found)


def _read_key(text: str) -> bytes:
    """A key of one line as bytes; nothing equals what can't be read."""
    try:
        return asyncssh.import_public_key(text).public_data
    except (asyncssh.KeyImportError, ValueError):
        return b""
