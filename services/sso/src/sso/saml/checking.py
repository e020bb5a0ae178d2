"""Where SAML messages are checked: in threads of their own, off the event loop, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from sso.saml.refusals import Unbelieved

T = TypeVar("T")

THREADS: Final = 4
DEADLINE_SECONDS: Final = 5.0
"""Including the time a message waits for a thread. One takes some milliseconds, and none a second: it is bounded."""
MOST_WAITING: Final = 200


class Checking:
    """Runs checks of messages in threads."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._waiting = 0

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Checking]:
        """Threads that end with the service."""
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="saml")
        try:
            yield cls(pool)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    async def run(self, check: Callable[[], T]) -> T:
        """What a check returns or raises. TimeoutError when too much is waiting already."""
        if self._waiting >= MOST_WAITING:
            raise TimeoutError
        self._waiting += 1
        try:
            return await asyncio.wait_for(
                asyncio.get_running_loop().run_in_executor(self._pool, check), DEADLINE_SECONDS
            )
        except RecursionError:
            raise Unbelieved("the document is too deep or too large") from None
        finally:
            self._waiting -= 1
