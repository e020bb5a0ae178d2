"""The facts a fetch or a decision was answered with, kept so that whoever asks again gets the same."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from homeroom.messages import Fact

_ANY: msgspec.json.Decoder[Fact | list[Fact]] = msgspec.json.Decoder(Fact | list[Fact])


def encode_facts(facts: Sequence[Fact]) -> bytes:
    """Facts as they are kept."""
    return msgspec.json.encode(list(facts))


def decode_facts(kept: bytes) -> Sequence[Fact]:
    """Facts as they were kept; older stores kept one alone."""
    found = _ANY.decode(kept)
    return found if isinstance(found, list) else (found,)
