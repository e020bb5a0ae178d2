"""The token endpoint, and who accepts its tokens."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from homeroom.auth import TokenRefused, Verifier
from homeroom.clock import MovingClock
from homeroom.testing.tokens import forge_hmac
from sso.clients import Client
from sso.tokens import TokenDenied, narrow, read_request

SECRET = "boss-secret-with-öäü:and-more"


def _verifier(service: Any, clock: MovingClock) -> Verifier:
    """What another service checks tokens with: it knows sso by its JWKS only."""

    async def fetch() -> Mapping[str, Any]:
        document: Mapping[str, Any] = (await service.client.get("/oauth2/jwks")).json()
        return document

    return Verifier("http://homeroom.test", fetch, clock)


async def test_tokens_are_accepted_by_other_services(service: Any, clock: MovingClock) -> None:
    """A token names its client and scopes, is good for an hour, and is not kept by caches."""
    answer = await service.ask("gateway", "gateway-secret-0123456789")
    body = answer.json()
    caller = await _verifier(service, clock).verify(body["access_token"])

    assert (body["token_type"], body["expires_in"]) == ("Bearer", 3600)
    assert answer.headers["cache-control"] == "no-store"
    assert (caller.client_id, caller.organization_id) == ("gateway", None)
    assert {"fingerprints.read", "roster.read"} <= caller.scopes

    clock.move(hours=1, minutes=1)
    with pytest.raises(TokenRefused, match="Expired"):
        await _verifier(service, clock).verify(body["access_token"])


async def test_a_secret_may_be_sent_as_form_fields(service: Any) -> None:
    """Clients that can't do HTTP Basic send id and secret in the form."""
    form = {"grant_type": "client_credentials", "client_id": "boss", "client_secret": SECRET, "scope": "runs.write"}

    answer = await service.client.post("/oauth2/token", data=form)

    assert (answer.status_code, answer.json()["scope"]) == (200, "runs.write")


async def test_scopes_are_narrowed(service: Any, clock: MovingClock) -> None:
    """A client gets fewer scopes if it asks for fewer, also such as its own include, and never one more."""
    caller = await _verifier(service, clock).verify(await service.token("boss", SECRET, "integrations.read"))
    refused = await service.ask("boss", SECRET, "integrations.read fingerprints.read")

    assert caller.scopes == {"integrations.read"}
    assert (refused.status_code, refused.json()["error"], refused.json()["code"]) == (
        400,
        "invalid_scope",
        "SCOPE_REFUSED",
    )


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        ("boss", "wrong"),
        ("boss", "gateway-secret-0123456789"),
        ("nobody", SECRET),
        ("bo\0ss", SECRET),
        ("boss", "x" * 5000),
        ("", ""),
    ],
)
async def test_wrong_secrets_are_refused(service: Any, client_id: str, secret: str) -> None:
    """An unknown client and a wrong secret get the same answer, in the standard's words and in ours."""
    answer = await service.ask(client_id, secret)
    body = answer.json()

    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic")
    assert (body["error"], body["code"]) == ("invalid_client", "CLIENT_INVALID")
    assert body["next_step"]
    assert "access_token" not in body


@pytest.mark.parametrize(
    ("form", "status", "error", "code"),
    [
        ([("grant_type", "password")], 400, "unsupported_grant_type", "GRANT_UNSUPPORTED"),
        ([], 400, "invalid_request", "REQUEST_INVALID"),
        ([("grant_type", "client_credentials")] * 2, 400, "invalid_request", "REQUEST_INVALID"),
        ([("grant_type", "client_credentials")], 401, "invalid_client", "CLIENT_INVALID"),
    ],
)
async def test_wrong_requests_are_told_in_the_standards_words(
    service: Any, form: list[tuple[str, str]], status: int, error: str, code: str
) -> None:
    """RFC 6749 §5.2 says what each mistake is called; our own code stands beside it."""
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    answer = await service.client.post("/oauth2/token", content=urlencode(form), headers=headers)

    body = answer.json()
    assert (answer.status_code, body["error"], body["code"]) == (status, error, code)


@pytest.mark.parametrize("authorization", ["Basic", "Basic !!!", "Basic bm9jb2xvbg==", "Bearer x", "Basic /w=="])
def test_broken_basic_is_refused(authorization: str) -> None:
    """An Authorization header that holds no id and secret is refused, whatever it holds."""
    with pytest.raises(TokenDenied):
        read_request([("grant_type", "client_credentials")], authorization)


def test_two_ways_at_once_are_refused() -> None:
    """A client that shows a secret in two ways is refused, as RFC 6749 §2.3 demands."""
    with pytest.raises(TokenDenied, match="two ways"):
        read_request([("grant_type", "client_credentials"), ("client_secret", "x")], "Basic YTpi")


def test_no_scopes_means_all() -> None:
    """Whoever asks for nothing gets all the client was given, and nothing that those include is spelled out."""
    assert narrow({"admin"}, []) == ("admin",)
    assert narrow({"admin"}, ["runs.write"]) == ("runs.write",)


async def test_forged_tokens_are_refused(service: Any, clock: MovingClock) -> None:
    """The public keys sso shows to all are good for checking only, not for making tokens."""
    document = (await service.client.get("/oauth2/jwks")).json()["keys"][0]
    verifier = _verifier(service, clock)
    await verifier.verify(await service.token("boss", SECRET))
    public = RSAKey.import_key(document)
    now = int(clock.now().timestamp())
    claims = {"iss": "http://homeroom.test", "aud": "homeroom", "sub": "x", "exp": now + 600, "scope": "admin"}
    forged = [forge_hmac(public.as_pem(private=False), document["kid"], claims)]
    stranger = RSAKey.generate_key(2048)
    forged.append(jwt.encode({"alg": "RS256", "kid": document["kid"]}, claims, stranger, default_type="at+jwt"))

    for token in forged:
        with pytest.raises(TokenRefused):
            await verifier.verify(token)
        answer = await service.client.get("/v1/clients", headers={"Authorization": f"Bearer {token}"})
        assert (answer.status_code, answer.json()["code"]) == (401, "TOKEN_INVALID")


async def test_nothing_private_is_published(service: Any) -> None:
    """The JWKS holds public numbers only, and the metadata leads there."""
    metadata = (await service.client.get("/.well-known/openid-configuration")).json()
    same = (await service.client.get("/.well-known/oauth-authorization-server")).json()
    keys = (await service.client.get(metadata["jwks_uri"].removeprefix("http://homeroom.test"))).json()["keys"]

    assert metadata == same
    assert metadata["issuer"] == "http://homeroom.test"
    assert all(set(key) == {"kty", "n", "e", "kid", "use", "alg"} for key in keys)


async def test_a_refused_secret_costs_little(service: Any) -> None:
    """Nonsense at the token endpoint is answered quickly, so nobody can keep sso busy by guessing."""
    began = time.perf_counter()
    for n in range(50):
        assert (await service.ask("boss", f"guess-{n}")).status_code == 401

    assert time.perf_counter() - began < 5


def test_clients_do_not_show_secrets() -> None:
    """What is read of a client has no place for its secret."""
    assert not [name for name in Client.__dataclass_fields__ if "secret" in name]
