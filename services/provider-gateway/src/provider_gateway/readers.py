"""Readers: processes that turn pages into canonical bytes beside the event loop.

Decoding, normalising and hashing a large district keeps a processor busy for as long as fetching it does. A few
processes share that work, and the worker's own loop is free for the network, heartbeats and comparing. They hold
nothing but what they need to decode: a page comes in as the provider sent it and goes out ready to be compared.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager, contextmanager
from typing import Final, ParamSpec, TypeVar

from homeroom.codes import Code
from provider_gateway.failures import OwnTrouble

P = ParamSpec("P")
T = TypeVar("T")

log = logging.getLogger(__name__)

_WATCH_SECONDS: Final = 1.0


class Readers:
    """A pool of reading processes."""

    def __init__(self, processes: int) -> None:
        """Take the number of processes; with 0 all work is done in the caller's."""
        self._processes = processes
        self._pool: ProcessPoolExecutor | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, processes: int) -> AsyncGenerator[Readers]:
        """A pool that ends with the block."""
        readers = cls(processes)
        if processes:
            readers._pool = readers._begin()  # now, for their start takes longer than many a fetch
        try:
            yield readers
        finally:
            readers._end()

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do `work`, a module's function, in a reading process.

        Raises what `work` raises, and `OwnTrouble` if the process died of it.
        """
        if not self._processes:
            return work(*args, **kwargs)
        pool = self._pool = self._pool or self._begin()
        try:
            return await asyncio.wrap_future(pool.submit(work, *args, **kwargs))
        except BrokenProcessPool:
            if self._pool is pool:
                self._end()
            raise OwnTrouble(Code.RUN_INTERNAL, "A process that reads pages ended unexpectedly.") from None

    def _begin(self) -> ProcessPoolExecutor:
        log.info("starting %d reading processes", self._processes)
        # Spawned, not forked: a fork would take threads' locks and open connections along.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self._processes, context, _prepare, (os.getpid(),))
        pool.submit(os.getpid)  # the first piece of work starts them all
        return pool

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection while rows are made into records: none of them is garbage yet."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _prepare(parent: int) -> None:
    """Make a fresh process ready to read: no walks over what stays, and an end when the worker has ended."""
    gc.collect()
    gc.freeze()
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    """A worker that was killed can't tell its readers; they see that they have another parent."""
    while os.getppid() == parent:
        time.sleep(_WATCH_SECONDS)
    os._exit(1)
