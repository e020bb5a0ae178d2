"""Signing keys follow one another."""

from datetime import UTC, datetime, timedelta

import pytest
from joserfc.jwk import RSAKey
from pydantic import SecretStr

from homeroom.auth import FRESH_SECONDS, TokenRefused, Verifier
from homeroom.clock import MovingClock
from homeroom.db import Database
from homeroom.secrets import SealingKeys, SecretUnreadable, generate_key
from sso.clients import Client
from sso.keys import LEAD, Keys, Rotation, SigningKey, decide_rotation, find_signing
from sso.settings import Settings
from sso.tokens import sign

NOW = datetime(2026, 9, 1, tzinfo=UTC)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)
PRIVATE = RSAKey.generate_key(2048)
CLIENT = Client("me", frozenset({"admin"}), None, NOW, None, None)


def _key(name: str, signs_from: datetime) -> SigningKey:
    return SigningKey(name, signs_from, {}, PRIVATE)


def test_the_first_key_signs_at_once() -> None:
    """A new installation does not wait for its first token."""
    assert decide_rotation([], NOW, life=DAY, token_life=HOUR) == Rotation(NOW, ())


def test_the_next_key_is_published_before_it_signs() -> None:
    """The next key is made early enough that everybody has it when it begins to sign."""
    keys = [_key("old", NOW - DAY + LEAD)]

    assert decide_rotation(keys, NOW - timedelta(seconds=1), life=DAY, token_life=HOUR).add_from is None
    assert decide_rotation(keys, NOW, life=DAY, token_life=HOUR).add_from == NOW + LEAD


def test_one_key_at_a_time_is_on_its_way() -> None:
    """Asking early for a new key twice does not make two."""
    keys = [_key("old", NOW - HOUR)]
    assert decide_rotation(keys, NOW, life=DAY, token_life=HOUR, early=True).add_from == NOW + LEAD

    keys.append(_key("next", NOW + LEAD))

    assert decide_rotation(keys, NOW, life=DAY, token_life=HOUR, early=True).add_from is None
    assert find_signing(keys, NOW).id == "old"
    assert find_signing(keys, NOW + LEAD).id == "next"


def test_an_old_key_stays_for_its_last_tokens() -> None:
    """A key is dropped only when the last token it signed has run out."""
    keys = [_key("old", NOW - DAY), _key("new", NOW)]

    assert decide_rotation(keys, NOW + HOUR, life=DAY, token_life=HOUR).drop == ()
    assert decide_rotation(keys, NOW + HOUR * 1.1, life=DAY, token_life=HOUR).drop == ("old",)


async def test_keys_rotate_without_downtime(settings: Settings) -> None:
    """Over days of rotations on two copies of sso no valid token is ever refused, not even from an old JWKS."""
    clock = MovingClock(NOW)
    async with Database.open(settings.database_url.get_secret_value(), schema="sso", size=2) as database:
        copies = [Keys(database, settings.sealing_keys, clock, life=DAY, token_life=HOUR) for _ in range(2)]
        for keys in copies:
            await keys.refresh()
        # Far-away services: each asks one copy, and never again sooner than it must.
        verifiers = [Verifier(settings.issuer, keys.jwks, clock) for keys in copies]
        step = timedelta(seconds=FRESH_SECONDS)
        signers: set[str] = set()
        tokens: list[str] = []
        for _ in range(3 * DAY // step):
            known_before = {key["kid"] for key in (await copies[0].jwks())["keys"]}
            clock.move(seconds=step.total_seconds())
            await copies[0].refresh()
            await copies[1].refresh()
            signer = copies[1].signing
            assert signer.id in known_before
            signers.add(signer.id)
            answer = sign(CLIENT, ["admin"], signer, issuer=settings.issuer, clock=clock, seconds=3600)
            tokens = [*tokens[-11:], answer["access_token"]]
            for verifier in verifiers:
                await verifier.verify(tokens[0])
                await verifier.verify(tokens[-1])

        assert len(signers) == 3
        assert len((await copies[0].jwks())["keys"]) <= 2


async def test_keys_are_sealed_at_rest(settings: Settings) -> None:
    """The database holds no private key in the clear, and another HOMEROOM_SSO_KEY opens nothing."""
    clock = MovingClock(NOW)
    async with Database.open(settings.database_url.get_secret_value(), schema="sso", size=1) as database:
        await Keys(database, settings.sealing_keys, clock, life=DAY, token_life=HOUR).refresh()
        row = await database.fetchrow("SELECT * FROM signing_key")
        assert row is not None
        assert "d" not in row["public_jwk"]
        stranger = SealingKeys([generate_key()[0]])
        with pytest.raises(SecretUnreadable):
            await Keys(database, stranger, clock, life=DAY, token_life=HOUR).refresh()


async def test_the_sealing_key_can_be_exchanged(settings: Settings) -> None:
    """With the new key in front of the old one, sso goes on with the keys it has."""
    clock = MovingClock(NOW)
    both = settings.model_copy(
        update={"sso_key": SecretStr(f"{generate_key()[0]},{settings.sso_key.get_secret_value()}")}
    )
    async with Database.open(settings.database_url.get_secret_value(), schema="sso", size=1) as database:
        before = Keys(database, settings.sealing_keys, clock, life=DAY, token_life=HOUR)
        await before.refresh()
        after = Keys(database, SealingKeys(both.sso_key.get_secret_value()), clock, life=DAY, token_life=HOUR)
        await after.refresh()

        assert before.signing.id == after.signing.id


async def test_a_dropped_key_is_refused(settings: Settings) -> None:
    """A token signed with a key that is no longer published is refused."""
    clock = MovingClock(NOW)
    async with Database.open(settings.database_url.get_secret_value(), schema="sso", size=1) as database:
        keys = Keys(database, settings.sealing_keys, clock, life=DAY, token_life=HOUR)
        await keys.refresh()
        token = sign(CLIENT, [], keys.signing, issuer=settings.issuer, clock=clock, seconds=10**6)["access_token"]
        verifier = Verifier(settings.issuer, keys.jwks, clock)
        await verifier.verify(token)
        for _ in range(3):
            clock.move(days=1)
            await keys.refresh()

        with pytest.raises(TokenRefused):
            await verifier.verify(token)
