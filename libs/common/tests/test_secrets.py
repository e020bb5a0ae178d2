"""homeroom.secrets."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from homeroom.secrets import SealingKeys, SecretUnreadable, generate_key, hash_password, seal, verify_password

PRIVATE, PUBLIC = generate_key()


@given(context=st.text(max_size=50), secret=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=200))
def test_what_is_sealed_opens(context: str, secret: str) -> None:
    """Any secret comes back as it was for whoever holds the private key."""
    context = context.encode("utf-8", "replace").decode()

    assert SealingKeys([PRIVATE]).open(context, seal(PUBLIC, context, secret)) == secret


def test_a_sealed_secret_opens_only_in_its_context() -> None:
    """A secret copied to another integration does not open there."""
    sealed = seal(PUBLIC, "integration-a", "hunter2-hunter2")

    with pytest.raises(SecretUnreadable, match="something else") as caught:
        SealingKeys([PRIVATE]).open("integration-b", sealed)

    assert "hunter2" not in str(caught.value)


def test_earlier_keys_still_open() -> None:
    """While keys are exchanged, what was sealed to the earlier one opens, and new secrets go to the new one."""
    new_private, new_public = generate_key()
    keys = SealingKeys(f"{new_private}, {PRIVATE}")

    assert keys.open("x", seal(PUBLIC, "x", "old")) == "old"
    assert keys.open("x", seal(new_public, "x", "new")) == "new"
    assert keys.public_key == new_public


def test_an_unknown_key_is_named() -> None:
    """A secret sealed to a key that is not held is refused, and both keys are named by their ids."""
    other, _ = generate_key()

    with pytest.raises(SecretUnreadable, match=PRIVATE.partition(":")[0]):
        SealingKeys([other]).open("x", seal(PUBLIC, "x", "secret"))


@pytest.mark.parametrize("damage", ["", "nonsense", "nonsense.nonsense", "cut", "flip"])
def test_damaged_secrets_are_refused(damage: str) -> None:
    """Whatever was altered or cut off is unreadable instead of wrong."""
    sealed = seal(PUBLIC, "x", "secret")
    damaged = {"cut": sealed[:-8], "flip": sealed[:-6] + ("A" if sealed[-6] != "A" else "B") + sealed[-5:]}

    with pytest.raises(SecretUnreadable):
        SealingKeys([PRIVATE]).open("x", damaged.get(damage, damage))


@pytest.mark.parametrize(
    "text",
    ["", "abc", PRIVATE[:-4], f"000000000000:{PRIVATE.partition(':')[2]}"],
    ids=["nothing", "a word", "cut off", "another id"],
)
def test_keys_that_are_none_are_refused(text: str) -> None:
    """A private key that was mistyped or cut off is found at start."""
    with pytest.raises(ValueError, match="key"):
        SealingKeys([text])


@given(password=st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60), other=st.text(max_size=60))
@settings(max_examples=10, deadline=None)
def test_a_password_is_checked_and_not_kept(password: str, other: str) -> None:
    """The right password passes, any other does not, and the same one is never hashed to the same text twice."""
    hashed = hash_password(password)

    assert verify_password(password, hashed)
    assert verify_password(other, hashed) is (other == password)
    assert hash_password(password) != hashed
    assert hashed.startswith("scrypt$16384$8$1$")


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "x",
        "scrypt$16384$8$1$c2FsdA==",
        "bcrypt$16384$8$1$c2FsdA==$c2FsdA==",
        "scrypt$16383$8$1$c2FsdA==$c2FsdA==",
        "scrypt$-1$8$1$c2FsdA==$c2FsdA==",
        "scrypt$1048576$64$64$c2FsdA==$c2FsdA==",
        "scrypt$99999999999999999999999$8$1$c2FsdA==$c2FsdA==",
        "scrypt$16384$8$1$c2FsdA==$",
        "scrypt$16384$8$1$\u00e9$c2FsdA==",
    ],
)
def test_what_is_no_hash_lets_nobody_in(hashed: str) -> None:
    """A damaged hash, or one that asks for more memory than a check may take, fits no password."""
    assert verify_password("", hashed) is False
    assert verify_password("salt", hashed) is False
