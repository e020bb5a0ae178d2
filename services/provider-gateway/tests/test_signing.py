"""OAuth 1.0a signatures and OAuth 2 tokens."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx2
import pytest

from homeroom.codes import Code
from provider_gateway.failures import ProviderError
from provider_gateway.signing import Answer, Bearer, OAuth1, OAuth2, SignatureMethod, list_ways, read_clock, sign

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
    auth = OAuth2("id", "secret", "https://x.example/token", ("roster.readonly",), endpoint)
    for _ in range(3):
        await _ask(auth, [200])
    assert endpoint.asked == 1


async def test_token_is_renewed_once() -> None:
    """A token that is refused after it was accepted is renewed and the request sent again."""
    auth = OAuth2("id", "secret", "https://x.example/token", ("roster.readonly",), _TokenEndpoint("basic", scope=True))
    await _ask(auth, [200])
    assert await _ask(auth, [401, 200]) == ["Bearer t-1", "Bearer t-2"]
    with pytest.raises(ProviderError) as caught:
        await _ask(auth, [401, 401])
    assert caught.value.code == Code.AUTH_EXPIRED


async def test_token_that_was_never_good() -> None:
    """A token that is refused at once means the credentials are wrong, not expired."""
    auth = OAuth2("id", "secret", "https://x.example/token", ("roster.readonly",), _TokenEndpoint("basic", scope=True))
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


async def _send(auth: httpx2.Auth, *responses: httpx2.Response) -> list[httpx2.Request]:
    """Send one request; its tries."""
    tries: list[httpx2.Request] = []

    async def answer(request: httpx2.Request) -> httpx2.Response:
        tries.append(httpx2.Request(request.method, request.url, headers=request.headers))
        return responses[len(tries) - 1]

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer)) as client:
        await client.get(ADDRESS, auth=auth)
    return tries


def _dated(status: int, ahead: float) -> httpx2.Response:
    moment = datetime.now(UTC) + timedelta(seconds=ahead)
    return httpx2.Response(status, headers={"date": format_datetime(moment, usegmt=True)})


@pytest.mark.parametrize(("ahead", "tries"), [(0, 1), (30, 1), (600, 2), (-7200, 2)])
async def test_signed_by_their_clock(ahead: float, tries: int) -> None:
    """A signature refused by a server whose clock is far off is made once more by that clock, and kept to it (P9)."""
    auth = OAuth1("key", "secret")
    sent = await _send(auth, _dated(401, ahead), _dated(401, ahead))
    assert len(sent) == tries
    if tries > 1:
        (again,) = await _send(auth, _dated(200, ahead))
        stamp = again.headers["authorization"].partition('oauth_timestamp="')[2].partition('"')[0]
        assert abs(int(stamp) - time.time() - ahead) < 5


@pytest.mark.parametrize("text", ["", "yesterday", "Mon, 99 Jan 2026 00:00:00 GMT"])
def test_clocks_that_say_nothing(text: str) -> None:
    """A Date header that is none says nothing of a clock."""
    assert read_clock(httpx2.Headers({"date": text})) is None
    assert read_clock(httpx2.Headers()) is None


@pytest.mark.parametrize(("found", "tries"), [("new", ["old", "new"]), ("old", ["old"]), (None, ["old"])])
async def test_bearer(found: str | None, tries: list[str]) -> None:
    """A token that is refused is looked up once, and the request sent again only with another one."""
    looked_up = 0

    async def look_up() -> str | None:
        nonlocal looked_up
        looked_up += 1
        return found

    sent = await _send(Bearer("old", look_up), httpx2.Response(401), httpx2.Response(401))
    assert [request.headers["authorization"] for request in sent] == [f"Bearer {token}" for token in tries]
    assert looked_up == 1


async def test_bearer_without_a_way_back() -> None:
    """A token that can't be looked up again is sent once."""
    assert len(await _send(Bearer("old"), httpx2.Response(401))) == 1


def test_ways_to_ask_for_a_token() -> None:
    """The usual way comes first, fewer scopes after it, the other place for the credentials last; nothing twice."""
    ways = list_ways(("roster-core.readonly", "roster.readonly"), "v1p2", "body")
    assert [way.form for way in ways] == ["body"] * 3 + ["basic"] * 3
    assert [len(way.scope.split()) for way in ways[:3]] == [2, 1, 0]
    assert "/or/v1p2/scope/roster-core.readonly" in ways[0].scope
    assert len(list_ways((), "v1p1", "basic")) == 2
