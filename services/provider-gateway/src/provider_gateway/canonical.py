"""Records → canonical bytes, keys and fingerprints, a page at a time; what can't be stored is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from homeroom.codes import Code
from homeroom.roster import MAX_TEXT, Record, encode_record
from homeroom.rules import MAX_RECORD_BYTES, find_problem, list_fields
from provider_gateway.failures import RecordProblem

FINGERPRINT_BYTES = 8

_SIGN = np.uint64(1 << 63)
_UNSTORABLE = (RecursionError, UnicodeEncodeError)


@dataclass(frozen=True, slots=True)
class Canonical:
    """The canonical records of a page, packed: they come from a reading process, and most are only counted."""

    body: bytes = b""
    """The canonical bytes of all records with commas between them, so that any run of them is a JSON list's inside."""
    ends: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    """Where each record ends in `body`."""
    keys: bytes = b""
    """16 bytes (`roster.record_key`) each."""
    fingerprints: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    refused: list[RecordProblem] = field(default_factory=list)

    def __len__(self) -> int:
        """How many records."""
        return len(self.ends)

    def encoded(self, number: int) -> bytes:
        """The canonical bytes of one record."""
        return self.run(number, number + 1)

    def run(self, first: int, last: int) -> bytes:
        """The canonical bytes of the records from `first` to before `last`, with commas between them."""
        return self.body[self.start(first) : int(self.ends[last - 1])]

    def start(self, number: int) -> int:
        """Where a record begins in `body`."""
        return int(self.ends[number - 1]) + 1 if number else 0

    def list_ids(self) -> list[str]:
        """The sourcedIds of the records."""
        return [self.sourced_id(number) for number in range(len(self))]

    def only(self, chosen: NDArray[np.bool_]) -> Canonical:
        """Some of the records, by a mask."""
        numbers = np.nonzero(chosen)[0].tolist()
        encoded = [self.encoded(number) for number in numbers]
        keys = np.frombuffer(self.keys, "V16")[chosen].tobytes()
        return Canonical(b",".join(encoded), _ends_of(encoded), keys, self.fingerprints[chosen])

    def sourced_id(self, number: int) -> str:
        """The id of one record, read back out of its bytes: it is seldom asked for."""
        return msgspec.json.decode(self.encoded(number), type=_Id).sourced_id


class _Id(msgspec.Struct, rename="camel"):
    sourced_id: str


def _pack(sourced_ids: Sequence[str], encoded: Sequence[bytes], refused: list[RecordProblem]) -> Canonical:
    return Canonical(b",".join(encoded), _ends_of(encoded), keys_of(sourced_ids), fingerprints_of(encoded), refused)


def _ends_of(encoded: Sequence[bytes]) -> NDArray[np.int64]:
    return np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)) + 1) - 1


def keys_of(sourced_ids: Iterable[str]) -> bytes:
    """`roster.record_key` of each, one after the other."""
    return b"".join(map(xxhash.xxh3_128_digest, map(str.encode, sourced_ids)))


def fingerprints_of(encoded: Sequence[bytes]) -> NDArray[np.int64]:
    """`roster.fingerprint` of each."""
    hashes = np.frombuffer(b"".join(map(xxhash.xxh3_64_digest, encoded)), ">u8").astype(np.uint64)
    signed = (hashes ^ _SIGN).view(np.int64)
    signed[signed == 0] = 1
    return signed


def prepare(records: list[Record], *, suspicious: bool) -> tuple[Canonical, list[Record]]:
    """Encode and hash records, refusing those that hold what can't be stored; also gives those that were taken.

    Args:
        records: the records of a page.
        suspicious: whether some text may hold NUL or half a surrogate pair, so that each is looked at.
    """
    if not suspicious:
        try:
            encoded = [encode_record(record) for record in records]
        except _UNSTORABLE:
            encoded = []
        if encoded and max(map(len, encoded)) <= MAX_TEXT:  # then no text in them is longer either
            return _pack([record.sourced_id for record in records], encoded, []), records
    refused: list[RecordProblem] = []
    good: list[Record] = []
    encoded = []
    for record in records:
        try:
            encoded.append(_encode(record))
            good.append(record)
        except RecordProblem as problem:
            problem.sourced_id = record.sourced_id
            refused.append(problem)
    return _pack([record.sourced_id for record in good], encoded, refused), good


def _encode(record: Record) -> bytes:
    try:
        _check(record)
        encoded = encode_record(record)
    except _UNSTORABLE:
        raise RecordProblem(Code.RECORD_INVALID) from None
    if len(encoded) > MAX_RECORD_BYTES:
        raise RecordProblem(Code.FIELD_TOO_LONG)
    return encoded


def _check(record: Record) -> None:
    for attribute, name in list_fields(type(record)):
        problem = find_problem(getattr(record, attribute))
        if problem is not None:
            raise RecordProblem(problem, field=name)
