"""OAuth 1.0a signatures and OAuth 2 tokens."""

from collections.abc import Mapping
from typing import Any

import httpx2
import pytest

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.signing import Answer, OAuth1, OAuth2, SignatureMethod, sign

ADDRESS = "https://example-v2.rosterserver.com/ims/oneroster/v1p1/users"
# Per query: HMAC-SHA1 and HMAC-SHA256 with oauth_version=1.0, then HMAC-SHA256 without it.
QUERIES = {
    "": (
        "wrw3iKsOVu5JcGNpHzMwIkCOmU8=",
        "oE35GmAf8/zZi8BxdQeMbJMVkUuOKXlMsf9z4/yQOTc=",
        "fZyeHJ/xSXN8CaZBfIYeaiVInHzCP07BQEawj50S4JI=",
    ),
    "limit=100&offset=0": (
        "3UdKZsrFXxvrpi/zWGt/uPW4d5I=",
        "ZQxj5kA4GOqHXmm9NTGK2CD9p2hWCVWgTR2WqAEHQw4=",
        "11Fip/gHoumK/mO3Bt/smYKNi0DwNI93IujUJqi5VOw=",
    ),
    "filter=role%3D%27teacher%27%20AND%20status%3D%27active%27&limit=100&offset=200": (
        "VR9G6DifQdJyv8OPuAw3Vy6pqCU=",
        "iI//5l6vROulwwu4+xEogyBMzMFeGhuRDtD53FkLvYA=",
        "fvm+h4S22QxHpOh5tcxsLNh6cXEQOl+0il83Uplo8Cg=",
    ),
    "filter=familyName~%27O%27%27Neil%27&fields=sourcedId%2CfamilyName": (
        "iLLGaz9SdQnKN0I1LnUz2H61MAc=",
        "GBfqXLcP4AtQqQgIi1V3IckkDfeip6LMBVSUGf9fbiQ=",
        "S/H1PmsxJMCbVfP9+jTBejWnbTq9VQg2mBtNWqY4JzU=",
    ),
}
VECTORS = [
    (query, method, version, signature)
    for query, signatures in QUERIES.items()
    for (method, version), signature in zip(
        (("HMAC-SHA1", True), ("HMAC-SHA256", True), ("HMAC-SHA256", False)), signatures, strict=True
    )
]


@pytest.mark.parametrize(("query", "method", "version", "signature"), VECTORS)
def test_vectors(query: str, method: SignatureMethod, version: bool, signature: str) -> None:
    """Signatures equal those of two independent implementations."""
    oauth = {
        "oauth_consumer_key": "key-1",
        "oauth_nonce": "abc123XYZ0",
        "oauth_timestamp": "1700000000",
        "oauth_signature_method": method,
    } | ({"oauth_version": "1.0"} if version else {})
    url = httpx2.URL(f"{ADDRESS}?{query}" if query else ADDRESS)
    assert sign("GET", url, oauth, "s3cr&t/=", method) == signature


def test_rfc_5849_host() -> None:
    """The base string names the host in lower case, and a port only where it is not the scheme's own."""
    oauth = {"oauth_nonce": "n"}
    one = sign("GET", httpx2.URL("https://Roster.Example:443/x"), oauth, "s", "HMAC-SHA1")
    other = sign("get", httpx2.URL("https://roster.example/x"), oauth, "s", "HMAC-SHA1")
    third = sign("GET", httpx2.URL("https://roster.example:8443/x"), oauth, "s", "HMAC-SHA1")
    assert one == other != third


def test_every_try_is_signed_anew() -> None:
    """Two requests never carry the same nonce, and the header names everything the server needs."""
    auth = OAuth1("key 1", "secret")
    headers = set()
    for _ in range(2):
        request = httpx2.Request("GET", ADDRESS)
        next(auth.auth_flow(request))
        headers.add(request.headers["authorization"])
    assert len(headers) == 2
    assert all('oauth_consumer_key="key%201"' in header and "oauth_signature=" in header for header in headers)


class _TokenEndpoint:
    """Takes credentials in one way only."""

    def __init__(self, way: str, scope: bool, refusal: int = 401) -> None:
        self.way, self.scope, self.refusal = way, scope, refusal
        self.asked = 0

    async def __call__(self, _address: str, form: Mapping[str, str], headers: Mapping[str, str]) -> Answer:
        self.asked += 1
        way = "basic" if "Authorization" in headers else "form"
        if way != self.way:
            return Answer(self.refusal, httpx2.Headers(), b"{}")
        if ("scope" in form) != self.scope:
            return Answer(400, httpx2.Headers(), b'{"error":"invalid_scope"}')
        body = b'{"access_token":"t-%d","token_type":"bearer","expires_in":"3600"}' % self.asked
        return Answer(200, httpx2.Headers(), body)


async def _ask(auth: OAuth2, statuses: list[int]) -> list[str]:
    """Send one request; what Authorization headers its tries had."""
    seen: list[str] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request.headers["authorization"])
        return httpx2.Response(statuses.pop(0))

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        await client.get(ADDRESS, auth=auth)
    return seen


@pytest.mark.parametrize("way", ["basic", "form"])
@pytest.mark.parametrize("scope", [True, False])
@pytest.mark.parametrize("refusal", [400, 401])
async def test_token_endpoints(way: str, scope: bool, refusal: int) -> None:
    """A token is had from endpoints that want a header or a form, with the scopes or without."""
    auth = OAuth2("id", "secret", "https://x.example/token", ("roster.readonly",), _TokenEndpoint(way, scope, refusal))
    assert (await _ask(auth, [200]))[0].startswith("Bearer t-")


async def test_token_is_kept() -> None:
    """One token serves many requests."""
    endpoint = _TokenEndpoint("basic", scope=True)
    auth = OAuth2("id", "secret", "https://x.example/token", (), endpoint)
    for _ in range(3):
        await _ask(auth, [200])
    assert endpoint.asked == 1


async def test_token_is_renewed_once() -> None:
    """A token that is refused after it was accepted is renewed and the request sent again."""
    auth = OAuth2("id", "secret", "https://x.example/token", (), _TokenEndpoint("basic", scope=True))
    await _ask(auth, [200])
    assert await _ask(auth, [401, 200]) == ["Bearer t-1", "Bearer t-2"]
    with pytest.raises(ProviderError) as caught:
        await _ask(auth, [401, 401])
    assert caught.value.code == Code.AUTH_EXPIRED


async def test_token_that_was_never_good() -> None:
    """A token that is refused at once means the credentials are wrong, not expired."""
    auth = OAuth2("id", "secret", "https://x.example/token", (), _TokenEndpoint("basic", scope=True))
    with pytest.raises(ProviderError) as caught:
        await _ask(auth, [401])
    assert caught.value.code == Code.AUTH_INVALID


@pytest.mark.parametrize("body", [b"", b"<html>", b'{"token":1}', b'{"access_token":"t","expires_in":"soon"}'])
async def test_answers_without_a_token(body: bytes) -> None:
    """An answer of the token endpoint that holds no token is told as such."""

    async def post(*_: Any) -> Answer:
        return Answer(200, httpx2.Headers(), body)

    with pytest.raises(ProviderError) as caught:
        await _ask(OAuth2("id", "secret", "https://x.example/token", (), post), [200])
    assert caught.value.code == Code.PROV_BAD_PAYLOAD
