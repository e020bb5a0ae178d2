"""homeroom.auth."""

import base64
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import httpx2
import msgspec
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from homeroom.auth import (
    FRESH_SECONDS,
    INTERNAL_SCOPES,
    RETRY_SECONDS,
    ROSTER_CORE_SCOPES,
    SCOPES,
    STALE_SECONDS,
    TEACHER_SCOPES,
    Caller,
    KeyRing,
    KeysUnavailable,
    TokenRefused,
    TokenSource,
    TokenUnavailable,
    include,
    own_teacher,
    require,
)
from homeroom.clock import MovingClock
from homeroom.problems import Problem
from homeroom.settings import Settings
from homeroom.testing.tokens import TestIssuer, forge_hmac

ISSUER = TestIssuer()
SETTINGS = Settings(
    database_url="postgresql://db/x", issuer="http://issuer.test", client_id="me", client_secret="s3cret"
)


async def test_a_good_token_tells_its_caller() -> None:
    """A token's subject, scopes with those they include, and organization reach the handler."""
    caller = await ISSUER.verifier.verify(ISSUER.token(["admin"], organization_id="o1", subject="boss"))

    assert caller == Caller("boss", include({"admin"}), "o1", "boss")
    assert "runs.write" in caller.scopes
    assert caller.may_see("o1")
    assert not caller.may_see("o2")


async def test_a_teacher_has_what_teachers_may() -> None:
    """A teacher's token names who they are in which roster, and opens no more than teachers may, whatever it claims."""
    who = {"integration_id": "i1", "sourced_id": "t1"}
    caller = await ISSUER.verifier.verify(ISSUER.token(["admin"], organization_id="o1", teacher=who))

    assert (caller.teacher, caller.scopes, caller.may_see("o1")) == (("i1", "t1"), TEACHER_SCOPES, False)
    assert own_teacher(caller, "i1", None) == own_teacher(caller, None, "t1") == "t1"
    assert own_teacher(Caller("boss", SCOPES), "i2", "t2") == "t2"
    for elsewhere in (("i2", "t1"), ("i1", "t2"), (None, "t2")):
        with pytest.raises(Problem, match="themselves"):
            own_teacher(caller, *elsewhere)
    with pytest.raises(Problem) as refused:
        await require("classes.start")(caller)
    assert refused.value.code == "TEACHER_REFUSED"
    assert await require("classes.start", teachers=True)(caller) == caller


@pytest.mark.parametrize(
    "claims",
    [
        {"teacher": "t1"},
        {"teacher": {}},
        {"teacher": {"integration_id": "i1", "sourced_id": ""}},
        {"teacher": {"integration_id": "i1", "sourced_id": 7}},
        {"organization_id": None},
        {"product_id": "p1"},
    ],
)
async def test_a_teacher_must_be_somebody(claims: dict[str, Any]) -> None:
    """A token whose teacher is nobody, is nowhere or is a product as well is no token."""
    said = {"organization_id": "o1", "teacher": {"integration_id": "i1", "sourced_id": "t1"}} | claims
    with pytest.raises(TokenRefused):
        await ISSUER.verifier.verify(ISSUER.token(["classes.start"], **said))


def test_admin_does_not_include_what_is_between_services() -> None:
    """An admin may do everything but what services ask of each other: fingerprints, and who somebody is."""
    assert include({"admin"}) >= SCOPES - INTERNAL_SCOPES
    assert not include({"admin"}) & INTERNAL_SCOPES


@pytest.mark.parametrize("version", ["v1p1", "v1p2"])
def test_oneroster_scopes_read_rosters(version: str) -> None:
    """A OneRoster consumer may ask for the scopes its standard names; those of the core are less than `roster.read`."""
    prefix = f"https://purl.imsglobal.org/spec/or/{version}/scope"
    assert "roster.read" in include({f"{prefix}/roster.readonly"})
    assert f"{prefix}/roster-core.readonly" in include({"roster.read"})
    assert include({f"{prefix}/roster-core.readonly"}) == ROSTER_CORE_SCOPES


def _unsigned(**header: str) -> str:
    _, claims, signature = ISSUER.token(["admin"]).split(".")
    head = base64.urlsafe_b64encode(msgspec.json.encode({"typ": "at+jwt", "kid": ISSUER.key.kid, **header}))
    return f"{head.decode().rstrip('=')}.{claims}.{signature if header['alg'] != 'none' else ''}"


def _signed_with(key: Any, algorithm: str, **header: str) -> str:
    now = int(time.time())
    claims = {"iss": ISSUER.issuer, "aud": "homeroom", "sub": "x", "exp": now + 600, "scope": "admin"}
    return jwt.encode(
        {"alg": algorithm, "kid": str(ISSUER.key.kid), **header}, claims, key, [algorithm], default_type="at+jwt"
    )


FORGED: dict[str, Callable[[], str]] = {
    "alg none": lambda: _unsigned(alg="none"),
    "alg None": lambda: _unsigned(alg="None"),
    "HS256 with the public key as secret": lambda: forge_hmac(
        ISSUER.key.as_pem(private=False),
        str(ISSUER.key.kid),
        {"iss": ISSUER.issuer, "aud": "homeroom", "sub": "x", "exp": int(time.time()) + 600, "scope": "admin"},
    ),
    "HS256 claimed over another signature": lambda: _unsigned(alg="HS256"),
    "RS256 claimed for an elliptic key": lambda: _unsigned(alg="RS256"),
    "signed by a stranger under our key id": lambda: _signed_with(ECKey.generate_key("P-256"), "ES256"),
    "an unknown key id": lambda: _signed_with(ISSUER.key, "ES256", kid="nobody"),
    "no key id": lambda: _unsigned(alg="ES256", kid=""),
    "an audience of somebody else": lambda: ISSUER.token(["admin"], aud="elsewhere"),
    "no audience": lambda: ISSUER.token(["admin"], aud=None),
    "an issuer of somebody else": lambda: ISSUER.token(["admin"], iss="https://evil.example"),
    "expired": lambda: ISSUER.token(["admin"], exp=int(time.time()) - 60),
    "no end": lambda: ISSUER.token(["admin"], exp=None),
    "an end that is no time": lambda: ISSUER.token(["admin"], exp="tomorrow"),
    "not valid yet": lambda: ISSUER.token(["admin"], nbf=int(time.time()) + 600),
    "no subject": lambda: ISSUER.token(["admin"], sub=None),
    "scopes of the wrong kind": lambda: ISSUER.token(scope=["admin"]),
    "another kind of token": lambda: jwt.encode(
        {"alg": "ES256", "kid": str(ISSUER.key.kid)},
        {"iss": ISSUER.issuer, "aud": "homeroom", "sub": "x", "exp": int(time.time()) + 60},
        ISSUER.key,
        default_type="JWT",
    ),
    "altered claims": lambda: "{}.{}A.{}".format(*ISSUER.token(["admin"]).split(".")),
    "no signature": lambda: ISSUER.token(["admin"]).rpartition(".")[0] + ".",
    "nonsense": lambda: "nonsense",
    "not ASCII": lambda: "é.é.é",
    "empty": lambda: "",
    "too long": lambda: ISSUER.token(["admin"], padding="x" * 10_000),
}


@pytest.mark.parametrize("forgery", FORGED)
async def test_forged_tokens_are_refused(forgery: str) -> None:
    """No token is accepted that sso did not issue for us, now, as an access token."""
    await ISSUER.verifier.verify(ISSUER.token())  # the keys are at hand, so nothing below fails for lack of them

    with pytest.raises(TokenRefused):
        await ISSUER.verifier.verify(FORGED[forgery]())


class _Sso:
    """A JWKS endpoint that can be switched off and counts its calls."""

    def __init__(self, issuer: TestIssuer) -> None:
        self.issuer = issuer
        self.calls = 0
        self.up = True

    async def fetch(self) -> Mapping[str, Any]:
        self.calls += 1
        if not self.up:
            raise httpx2.ConnectError("refused")
        return await self.issuer.jwks()


async def test_unknown_keys_cost_sso_nothing() -> None:
    """A flood of made-up key ids leads to one request for keys in five seconds at most."""
    clock, sso = MovingClock(datetime(2026, 9, 1, tzinfo=UTC)), _Sso(ISSUER)
    ring = KeyRing(sso.fetch, clock)
    for n in range(100):
        with pytest.raises(TokenRefused):
            await ring.key(f"made-up-{n}")
        clock.move(seconds=0.1)

    assert sso.calls <= 1 + 10 / RETRY_SECONDS


async def test_a_new_key_is_found_at_once() -> None:
    """A token signed with a key that appeared after the last look is accepted without waiting for the cache."""
    clock, sso = MovingClock(datetime(2026, 9, 1, tzinfo=UTC)), _Sso(ISSUER)
    ring = KeyRing(sso.fetch, clock)
    await ring.key(str(ISSUER.key.kid))
    sso.issuer = TestIssuer()
    clock.move(seconds=RETRY_SECONDS)

    assert (await ring.key(str(sso.issuer.key.kid))).kid == sso.issuer.key.kid


async def test_keys_outlive_an_outage_of_sso() -> None:
    """While sso is away, known keys serve for a day; after that nobody is let in on their word."""
    clock, sso = MovingClock(datetime(2026, 9, 1, tzinfo=UTC)), _Sso(ISSUER)
    ring = KeyRing(sso.fetch, clock)
    kid = str(ISSUER.key.kid)
    await ring.key(kid)
    sso.up = False

    clock.move(seconds=STALE_SECONDS - 1)
    assert (await ring.key(kid)).kid == kid
    clock.move(seconds=2)
    with pytest.raises(KeysUnavailable):
        await ring.key(kid)


async def test_withdrawn_keys_are_forgotten() -> None:
    """A key that sso no longer publishes is refused once the cache is old."""
    clock, sso = MovingClock(datetime(2026, 9, 1, tzinfo=UTC)), _Sso(ISSUER)
    ring = KeyRing(sso.fetch, clock)
    await ring.key(str(ISSUER.key.kid))
    sso.issuer = TestIssuer()
    clock.move(seconds=FRESH_SECONDS + 1)

    with pytest.raises(TokenRefused):
        await ring.key(str(ISSUER.key.kid))


class _TokenEndpoint:
    def __init__(self) -> None:
        self.status = 200
        self.asked: list[bytes] = []

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request.content)
        return httpx2.Response(self.status, json={"access_token": f"token-{len(self.asked)}", "expires_in": 1000})


async def test_tokens_are_renewed_before_they_end() -> None:
    """A service asks for one token, keeps it, renews it early, and an outage of sso is bridged by the old one."""
    endpoint, clock = _TokenEndpoint(), MovingClock(datetime(2026, 9, 1, tzinfo=UTC))
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(endpoint.answer)) as client:
        source = TokenSource(client, SETTINGS, ["runs.write"], clock)
        assert [await source.token() for _ in range(3)] == ["token-1"] * 3
        assert b"scope=runs.write" in endpoint.asked[0]

        clock.move(seconds=850)
        endpoint.status = 503
        assert await source.token() == "token-1"
        clock.move(seconds=RETRY_SECONDS)
        endpoint.status = 200
        assert await source.token() == "token-3"


async def test_a_refused_client_is_told_without_its_secret() -> None:
    """When no token can be had the error says what to check and does not hold the secret."""
    endpoint = _TokenEndpoint()
    endpoint.status = 401
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(endpoint.answer)) as client:
        with pytest.raises(TokenUnavailable, match="HOMEROOM_CLIENT_ID") as caught:
            await TokenSource(client, SETTINGS, ["runs.write"]).token()

    assert "s3cret" not in str(caught.value)
