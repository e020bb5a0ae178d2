"""Records → canonical bytes, keys and fingerprints, a page at a time; what can't be stored is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import msgspec
import numpy as np
import xxhash
from numpy.typing import NDArray

from homeroom.codes import Code
from homeroom.messages import MAX_CHUNK_BYTES, MAX_CHUNK_RECORDS
from homeroom.roster import MAX_TEXT, Record, encode_record
from provider_gateway.failures import RecordProblem

FINGERPRINT_BYTES = 8
MAX_RECORD_BYTES = MAX_CHUNK_BYTES - 4096 - 12 * MAX_CHUNK_RECORDS
"""What is left of a chunk for records: around them are the chunk's own fields and, in base64, fingerprints."""

_SIGN = np.uint64(1 << 63)


@dataclass(slots=True)
class Canonical:
    """The canonical records of a page; all four sequences run in step."""

    sourced_ids: Sequence[str] = ()
    encoded: Sequence[bytes] = ()
    keys: bytes = b""
    """16 bytes (`roster.record_key`) each."""
    fingerprints: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    refused: list[RecordProblem] = field(default_factory=list)


def keys_of(sourced_ids: Iterable[str]) -> bytes:
    """`roster.record_key` of each, one after the other."""
    digest = xxhash.xxh3_128_digest
    return b"".join([digest(sourced_id.encode()) for sourced_id in sourced_ids])


def fingerprints_of(encoded: Sequence[bytes]) -> NDArray[np.int64]:
    """`roster.fingerprint` of each."""
    digest = xxhash.xxh3_64_digest
    hashes = np.frombuffer(b"".join([digest(one) for one in encoded]), ">u8").astype(np.uint64)
    signed = (hashes ^ _SIGN).view(np.int64)
    signed[signed == 0] = 1
    return signed


def prepare(records: list[Record], *, suspicious: bool) -> Canonical:
    """Encode and hash records, refusing those that hold what can't be stored.

    Args:
        records: the records of a page.
        suspicious: whether some text may hold NUL or half a surrogate pair, so that each is looked at.
    """
    refused: list[RecordProblem] = []
    encode = encode_record
    if not suspicious:
        encoded = [encode(record) for record in records]
        if max(map(len, encoded), default=0) <= MAX_TEXT:  # then no text in them is longer either
            sourced_ids = [record.sourced_id for record in records]
            return Canonical(sourced_ids, encoded, keys_of(sourced_ids), fingerprints_of(encoded))
    good: list[Record] = []
    encoded = []
    for record in records:
        try:
            _check(record)
            one = encode(record)
            if len(one) > MAX_RECORD_BYTES:
                raise RecordProblem(Code.FIELD_TOO_LONG)
        except RecordProblem as problem:
            problem.sourced_id = _reportable(record.sourced_id)
            refused.append(problem)
        else:
            good.append(record)
            encoded.append(one)
    sourced_ids = [record.sourced_id for record in good]
    return Canonical(sourced_ids, encoded, keys_of(sourced_ids), fingerprints_of(encoded), refused)


def _check(record: Record) -> None:
    for info in msgspec.structs.fields(record):
        problem = find_problem(getattr(record, info.name))
        if problem is not None:
            raise RecordProblem(problem, field=info.encode_name)


def find_problem(value: Any) -> Code | None:
    """What keeps a value, or anything in it, from being stored."""
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            return Code.FIELD_TOO_LONG
        if "\0" in value or not _is_unicode(value):
            return Code.BAD_TEXT
        return None
    if value is None or isinstance(value, bool | int | float | date):
        return None
    if isinstance(value, dict):
        return find_problem([*value.keys(), *value.values()])
    if isinstance(value, msgspec.Struct):
        return find_problem([getattr(value, name) for name in value.__struct_fields__])
    return next((problem for one in value if (problem := find_problem(one)) is not None), None)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _reportable(sourced_id: str) -> str | None:
    """A sourcedId that can itself be stored and told, or nothing."""
    return sourced_id if find_problem(sourced_id) is None else None
