"""The roster store as the gateway sees it: what it holds, as keys and fingerprints."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final, TypeVar

import httpx2
import msgspec
import numpy as np
from numpy.typing import NDArray

from homeroom.auth import TokenSource, TokenUnavailable
from homeroom.codes import Code
from homeroom.telemetry import span
from provider_gateway.comparer import KEY_BYTES, Known
from provider_gateway.failures import OwnTrouble

SCOPE: Final = "fingerprints.read"
_HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER: Final = b"\xff\xff"
_TUPLE = np.dtype(
    [("fields", ">i2"), ("key_length", ">i4"), ("upper", ">u8"), ("lower", ">u8"), ("length", ">i4"), ("value", ">i8")]
)
_FIRST_CAPACITY = 4_096
_STREAM_SECONDS = 600.0
_TRIES = 3
_BASIS_TRIES = 3
_STREAMS_AT_ONCE = 3
_KEYS_AT_ONCE = 500

T = TypeVar("T")


class CopyReader:
    """Takes a binary COPY stream of (uuid, int8) piece by piece and keeps it as three columns."""

    def __init__(self) -> None:
        self._rest = b""
        self._begun = False
        self._ended = False
        self._size = 0
        self._upper = np.empty(_FIRST_CAPACITY, np.uint64)
        self._lower = np.empty(_FIRST_CAPACITY, np.uint64)
        self._value = np.empty(_FIRST_CAPACITY, np.int64)

    def feed(self, piece: bytes) -> None:
        """Take the next piece; `ValueError` if this is no such stream."""
        data = self._rest + piece if self._rest else piece
        start = 0
        if not self._begun:
            if len(data) < len(_HEADER):
                self._rest = data
                return
            if not data.startswith(_HEADER):
                raise ValueError("no COPY header")
            start = len(_HEADER)
            self._begun = True
        count = (len(data) - start) // _TUPLE.itemsize
        if count:
            rows = np.frombuffer(data, _TUPLE, count, start)
            if not bool(np.all((rows["fields"] == 2) & (rows["key_length"] == KEY_BYTES) & (rows["length"] == 8))):  # noqa: PLR2004 - the layout above
                raise ValueError("rows of another shape")
            self._keep(rows)
            start += count * _TUPLE.itemsize
        self._rest = data[start:]
        self._ended = self._rest == _TRAILER

    def finish(self) -> Known:
        """What was read; `ValueError` if the stream was cut off."""
        if not self._ended:
            raise ValueError("the stream was cut off")
        self._resize(self._size)
        return Known(self._upper, self._lower, self._value)

    def _keep(self, rows: NDArray[np.void]) -> None:
        size = self._size + len(rows)
        if size > len(self._upper):
            self._resize(max(size, len(self._upper) * 3 // 2))
        part = slice(self._size, size)
        self._upper[part], self._lower[part], self._value[part] = rows["upper"], rows["lower"], rows["value"]
        self._size = size

    def _resize(self, capacity: int) -> None:
        for column in (self._upper, self._lower, self._value):
            column.resize(capacity, refcheck=False)


class _Ids(msgspec.Struct):
    ids: dict[str, str]


class _Members(msgspec.Struct):
    basis: int
    held: dict[str, dict[str, str]]


class RosterStore:
    """Asks the roster store, with this service's own token."""

    def __init__(self, http: httpx2.AsyncClient, tokens: TokenSource, url: str) -> None:
        self._http = http
        self._tokens = tokens
        self._url = f"{url}/v1/fingerprints"

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, tokens: TokenSource) -> AsyncIterator[RosterStore]:
        """A client with its own connections."""
        timeout = httpx2.Timeout(60.0, connect=5.0)
        async with httpx2.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as http:
            yield cls(http, tokens, url)

    async def known(self, integration_id: str, collections: Sequence[str]) -> tuple[int, dict[str, Known]]:
        """The number of the apply that is shown, and what the store holds of each collection.

        Raises `OwnTrouble` STORE_UNAVAILABLE if it can't be had, or changes all the while.
        """
        with span("read fingerprints"):
            for _ in range(_BASIS_TRIES):
                turn = asyncio.Semaphore(_STREAMS_AT_ONCE)

                async def read(collection: str, turn: asyncio.Semaphore = turn) -> tuple[int, Known]:
                    async with turn:
                        return await _persist(lambda: self._read(integration_id, collection))

                try:
                    async with asyncio.TaskGroup() as group:
                        tasks = {collection: group.create_task(read(collection)) for collection in collections}
                except* OwnTrouble as troubles:
                    raise _first(troubles) from None
                found = {collection: task.result() for collection, task in tasks.items()}
                if len(bases := {basis for basis, _ in found.values()}) <= 1:
                    return max(bases, default=0), {collection: known for collection, (_, known) in found.items()}
        raise _unavailable("it was changed each time it was read")

    async def sourced_ids(self, integration_id: str, collection: str, keys: bytes) -> dict[bytes, str]:
        """The sourcedIds behind some keys."""
        found: dict[bytes, str] = {}
        texts = [keys[start : start + KEY_BYTES].hex() for start in range(0, len(keys), KEY_BYTES)]
        for start in range(0, len(texts), _KEYS_AT_ONCE):
            wanted = texts[start : start + _KEYS_AT_ONCE]

            async def ask(wanted: list[str] = wanted) -> dict[str, str]:
                async with asyncio.timeout(60.0):
                    answer = await self._http.post(
                        f"{self._url}/{integration_id}/{collection}/ids",
                        json={"keys": wanted},
                        headers=await self._tokens.headers(),
                    )
                self._check(answer)
                return msgspec.json.decode(answer.content, type=_Ids).ids

            found |= {bytes.fromhex(key): sourced_id for key, sourced_id in (await _persist(ask)).items()}
        return found

    async def class_members(
        self, integration_id: str, class_sourced_id: str, user_sourced_ids: Sequence[str]
    ) -> tuple[int, dict[str, dict[str, int]]]:
        """The number of the apply that is shown, and what is held of a class: collection → sourcedId → fingerprint.

        That is the class itself, all its enrollments, and those of the users that are asked about.
        """

        async def ask() -> _Members:
            async with asyncio.timeout(60.0):
                answer = await self._http.post(
                    f"{self._url}/{integration_id}/class-members",
                    json={"class_sourced_id": class_sourced_id, "user_sourced_ids": list(user_sourced_ids)},
                    headers=await self._tokens.headers(),
                )
            self._check(answer)
            return msgspec.json.decode(answer.content, type=_Members)

        members = await _persist(ask)
        held = {
            name: {sourced_id: int(fingerprint) for sourced_id, fingerprint in records.items()}
            for name, records in members.held.items()
        }
        return members.basis, held

    async def _read(self, integration_id: str, collection: str) -> tuple[int, Known]:
        reader = CopyReader()
        async with asyncio.timeout(_STREAM_SECONDS):
            headers = await self._tokens.headers()
            address = f"{self._url}/{integration_id}/{collection}"
            async with self._http.stream("GET", address, headers=headers) as answer:
                self._check(answer)
                async for piece in answer.aiter_bytes():
                    reader.feed(piece)
                basis = int(answer.headers.get("x-homeroom-apply", "0"))
        return basis, reader.finish()

    def _check(self, answer: httpx2.Response) -> None:
        if answer.status_code == httpx2.codes.UNAUTHORIZED:
            self._tokens.forget()
        answer.raise_for_status()


async def _persist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask a few times; the store may be starting again just now."""
    for tries in range(1, _TRIES + 1):
        try:
            return await ask()
        except httpx2.HTTPStatusError as error:
            why = f"it answered with status {error.response.status_code}"
        except (httpx2.HTTPError, TimeoutError, TokenUnavailable):
            why = "it did not answer"
        except (ValueError, msgspec.DecodeError):
            why = "its answer was cut off or not understood"
        if tries < _TRIES:
            await asyncio.sleep(0.5 * tries)
    raise _unavailable(why)


def _first(troubles: ExceptionGroup[OwnTrouble]) -> OwnTrouble:
    found = troubles.exceptions[0]
    return _first(found) if isinstance(found, ExceptionGroup) else found


def _unavailable(why: str) -> OwnTrouble:
    return OwnTrouble(Code.STORE_UNAVAILABLE, f"What the roster store holds could not be read: {why}.")
