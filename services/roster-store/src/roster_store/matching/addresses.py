"""By which e-mail addresses nobody may be matched, and how addresses are compared (pure; D3).

The functions `normal_address` and `find_address_fault` of migration 0007 do the same in SQL, and are what counts.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final, Literal

AddressFault = Literal["no_email", "placeholder_email"]

MAX_CHARACTERS: Final = 320
"""The longest local part and domain there can be (RFC 3696, errata 1690)."""
_SPACE: Final = " \t\r\n\u00a0\u200b\ufeff"
_FAULTS: Final = (
    # no address at all, or one within a network
    re.compile(r"^(?![^\s@]+@[^\s@]+\.[^@.]+$)"),
    # hidden by the district, as far as the gateway did not see it among all the other values
    re.compile(r"\*\*|[•█]"),
    re.compile(r"^(x{3,}([-.]x+)*|masked|redacted|obfuscated|hidden|confidential)@"),
    re.compile(r"@(x{3,}|masked|redacted|hidden)(\.|$)"),
    # what is entered where an address is asked for and there is none
    re.compile(
        r"^(no-?reply|do-?not-?reply|none|null|nil|n/?a|no-?e?-?mail|not-?provided|unknown|undefined|anonymous|nobody"
        r"|noone|test[0-9]*|testing|tester|test-?user|dummy|fake|sample|example|placeholder)@"
    ),
    # domains nobody can have mail at (RFC 2606 and what is used like them). The top level `.example` is not among
    # them: made-up districts live there, and a real one never does.
    re.compile(
        r"@([^@]*\.)?(example\.(com|net|org|edu)"
        r"|(none|null|noemail|no-email|nomail|noreply|placeholder|localhost|invalid|test)(\.[a-z]{2,3})?)$"
    ),
)


def normalise(email: str | None) -> str | None:
    """An address as it is compared: without space around it, in one Unicode form, in small letters; None for none.

    Tags and dots stay. That `a.b+c@…` and `ab@…` reach the same person is a rule of some mail providers, not of mail.

    >>> normalise("  Ada.Ek+Home@North.Example "), normalise(" ")
    ('ada.ek+home@north.example', None)
    """
    return unicodedata.normalize("NFC", (email or "").strip(_SPACE)).lower() or None


def find_fault(address: str | None) -> AddressFault | None:
    """Why nobody may be matched by a normalised address; None if somebody may.

    >>> [find_fault(one) for one in (None, "noreply@north.example", "j***@north.example", "ada@north.example")]
    ['no_email', 'placeholder_email', 'placeholder_email', None]
    """
    if address is None:
        return "no_email"
    if len(address) > MAX_CHARACTERS or any(pattern.search(address) for pattern in _FAULTS):
        return "placeholder_email"
    return None
