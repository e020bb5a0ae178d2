"""When somebody is gone, and when not."""

import pytest

from provider_gateway.completeness import Picture, can_be_asked_for, judge


@pytest.mark.parametrize(
    ("picture", "verdict"),
    [
        (Picture(distinct=10, first_stated=10, last_stated=10, unseen=0), "nobody is missing"),
        (Picture(distinct=10, first_stated=10, last_stated=10, unseen=500), "absent are gone"),
        (Picture(distinct=10, first_stated=10, last_stated=10, unseen=200), "gone unless found"),
        (Picture(distinct=0, first_stated=None, last_stated=None, unseen=1, whole=True), "absent are gone"),
        (Picture(distinct=9, first_stated=10, last_stated=10, unseen=1), "ask for each"),
        (Picture(distinct=10, first_stated=10, last_stated=11, unseen=1), "ask for each"),
        (Picture(distinct=10, first_stated=None, last_stated=None, unseen=200), "ask for each"),
        (Picture(distinct=10, first_stated=None, last_stated=10, unseen=1), "ask for each"),
        (Picture(distinct=10, first_stated=None, last_stated=None, unseen=201), "all stay"),
        (Picture(distinct=0, first_stated=0, last_stated=0, unseen=3), "gone unless found"),
    ],
)
def test_verdicts(picture: Picture, verdict: str) -> None:
    """Only a picture that proves itself lets the absent go; otherwise each is asked for, or all stay."""
    assert judge(picture, 200) == verdict


@pytest.mark.parametrize(
    ("sourced_id", "may"), [("a-1", True), ("ü", True), ("a/b", False), ("..", False), ("a b", False)]
)
def test_ids_that_can_be_asked_for(sourced_id: str, may: bool) -> None:
    """Nobody is taken for gone because an address could not carry their id."""
    assert can_be_asked_for(sourced_id) is may
