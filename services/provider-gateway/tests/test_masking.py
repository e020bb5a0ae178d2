"""Masked fields are told from real values and never taken for some (C13)."""

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeroom.codes import Code
from homeroom.roster import Record, Role, User
from provider_gateway.masking import FEWEST_PEOPLE, clear, find_uniform, is_mask

NAMES = st.sampled_from(["Ada", "Xenia", "Max", "Ruxxon", "Xi", "Alex X. Axxe", "M*", "-", "Ox-Bow"])


@pytest.mark.parametrize(
    "text",
    ["***", "*****", "j***@district.example", "****@****.***", "xxxx", "xxx-xxx", "xxx@xxx.xxx", "••••", "██████",
     "[REDACTED]", "Masked", "<hidden>", "confidential"],
)  # fmt: skip
def test_masks(text: str) -> None:
    """Asterisks, blocks, rows of x and the words for hidden are masks."""
    assert is_mask(text)


@given(NAMES)
def test_names_are_no_masks(name: str) -> None:
    """Real names, also short ones and ones with an x in them, are not taken for masks."""
    assert not is_mask(name)


def people(count: int, **fields: Any) -> list[Record]:
    return [
        User(
            sourced_id=f"u{number}",
            given_name=f"Given {number}",
            family_name=f"Family {number}",
            email=f"u{number}@district.example",
            roles=(Role(role="student", org_sourced_id="s"),),
        )
        if not fields
        else msgspec.structs.replace(people(count)[number], **fields)
        for number in range(count)
    ]


def test_uniform_needs_enough_people() -> None:
    """A value all share is a mask among many people and may be chance among few."""
    assert find_uniform(people(FEWEST_PEOPLE, phone="555-0100")) == {"phone"}
    assert find_uniform(people(FEWEST_PEOPLE - 1, phone="555-0100")) == frozenset()
    assert find_uniform(people(FEWEST_PEOPLE)) == frozenset()


def test_one_exception_is_enough() -> None:
    """A field in which one person differs is not the same for everybody."""
    users = [*people(FEWEST_PEOPLE, email="office@district.example"), *people(1)]
    assert find_uniform(users) == frozenset()


def test_cleared() -> None:
    """Masked values become absent, names empty; everything else stays as it was, and masks are counted."""
    users = people(2)
    users[0] = msgspec.structs.replace(users[0], email="u***@district.example", given_name="***", sms="555-0101")
    masked: Counter[str] = Counter()
    first, second = clear(users, frozenset({"phone"}), masked)
    assert isinstance(first, User)
    assert (first.email, first.given_name, first.sms) == (None, "", "555-0101")
    assert second is users[1]
    assert masked == {"email": 1, "given_name": 1}


async def test_masked_in_a_run(gateway: Any, provider: Any, user: Any) -> None:
    """A sync treats masked and uniform fields as absent for everybody and says which and how many, and succeeds."""
    provider.collections["users"] = [
        user(n, email=f"m***{n}@district.example" if n < 5 else f"m{n}@district.example", phone="555-0100")
        for n in range(60)
    ]
    outcome = await gateway.sync(page_size=25)
    told = {(issue.code, issue.field, issue.detail) for issue in outcome.completed.issues}
    assert told == {
        (Code.FIELD_MASKED, "phone", "the same for everybody"),
        (Code.FIELD_MASKED, "email", "masked for 5 people"),
    }
    held = gateway.store.records["users"]
    assert not any(b"555-0100" in record or b"***" in record for _, record in held.values())
    assert b"m5@district.example" in held["u5"][1]
    assert outcome.completed.bookmark.masked == ("phone",)


async def test_unmasked_again(gateway: Any, provider: Any, user: Any) -> None:
    """Once the district shares the field again, its values are taken at the next sync."""
    provider.collections["users"] = [user(n, email="hidden@district.example") for n in range(30)]
    await gateway.sync()
    provider.collections["users"] = [user(n, email=f"m{n}@district.example") for n in range(30)]
    outcome = await gateway.sync()
    assert outcome.reports["users"].changed == 30
    assert outcome.completed.issues == ()
