"""ID tokens: none of the forgeries counts, each of the genuine ones does."""

from __future__ import annotations

from collections import Counter

import pytest
from hostile_tokens import NOW, Case, list_forgeries, list_genuine

from sso.upstream.id_tokens import TokenRefused, check_id_token
from sso.upstream.key_sets import read_keys

CLASSES = {34, 36, 37, 38, 39, 40, 41, 42, 44}


def accepts(case: Case) -> bool:
    """Whether a token counts."""
    try:
        check_id_token(case.token, read_keys(case.key_set), case.expected, NOW)
    except TokenRefused:
        return False
    return True


def test_no_forgery_counts() -> None:
    """Of well over a hundred tokens that were forged from a genuine one, in every way that is known, none counts."""
    forgeries = list_forgeries()
    assert [case.name for case in forgeries if accepts(case)] == []
    assert len(forgeries) >= 150
    assert len({case.token for case in forgeries}) >= 150
    assert min(Counter(case.number for case in forgeries).values()) >= 8
    assert {case.number for case in forgeries} == CLASSES


def test_every_genuine_token_counts() -> None:
    """Whatever else genuine tokens carry, and whoever's clock is a little off, they count."""
    assert [case.name for case in list_genuine() if not accepts(case)] == []
    assert len(list_genuine()) >= 25


@pytest.mark.parametrize("number", sorted(CLASSES))
def test_a_forgery_is_refused_for_what_was_forged(number: int) -> None:
    """The reason that an admin can look up is that of the forgery, not of something that was broken along the way."""
    expected = {
        34: {"nonce"},
        36: {
            "signature",
            "no such key",
            "signature algorithm",
            "it brings its own key",
            "critical header",
            "no signed token",
            "header unreadable",
            "claims unreadable",
        },
        37: {"no such key", "signature algorithm"},
        38: {"issuer"},
        39: {"audience", "authorized party"},
        40: {
            "expired",
            "exp is no time",
            "iat is no time",
            "nbf is no time",
            "auth_time is no time",
            "issued in the future",
            "issued long ago",
            "expired before it was issued",
            "not valid yet",
            "not signed in anew",
        },
        41: {"subject"},
        42: {"at_hash", "c_hash"},
        44: {"another kind of token"},
    }
    reasons = set()
    for case in list_forgeries():
        if case.number == number:
            with pytest.raises(TokenRefused) as refused:
                check_id_token(case.token, read_keys(case.key_set), case.expected, NOW)
            reasons.add(refused.value.why)
    assert reasons == expected[number]
