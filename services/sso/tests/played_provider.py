"""Plays an OpenID provider, or a portal with OAuth 2 only, over real HTTP on loopback: an honest one until told else.

async with playing_provider(clock) as provider:
    back = provider.approve(url, subject="u-1")     # what a browser would be sent to after signing in there
    provider.forge = lambda genuine: …              # another ID token in its place
    provider.behave["/token"] = "slow"              # and other servers' manners
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import msgspec
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from homeroom.clock import Clock

CLIENT_ID = "homeroom"
SECRET = "upstream-secret-0123456789"
Manner = Literal[
    "slow", "drip", "flood", "huge", "bomb", "redirect", "html", "error", "hang-up", "not-json", "list", "refuse"
]
HUGE = b"[" + b" " * 6_000_000 + b"]"


@cache
def make_rsa(name: str) -> RSAKey:
    """An RSA key, the same whenever it is asked for by this name: making one takes a while."""
    return RSAKey.generate_key(2048, {"kid": name, "use": "sig"}, auto_kid=False)


@cache
def make_ec(name: str) -> ECKey:
    """A key on P-256, likewise."""
    return ECKey.generate_key("P-256", {"kid": name, "use": "sig"}, auto_kid=False)


def sign(header: dict[str, Any], claims: object, key: RSAKey | ECKey) -> str:
    """A signed token, with whatever header and claims."""
    registry = jws.JWSRegistry(algorithms=[header["alg"]], strict_check_header=False)
    return jws.serialize_compact(header, msgspec.json.encode(claims), key, registry=registry)


def hash_half(text: str) -> str:
    """`at_hash` of a token for signatures with SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()[:16]).rstrip(b"=").decode()


@dataclass
class Grant:
    """What a code stands for."""

    redirect_uri: str
    nonce: str | None
    challenge: str | None
    claims: dict[str, Any]
    used: bool = False


@dataclass
class PlayedProvider:
    """A provider with one client."""

    clock: Clock
    url: str = ""
    key: RSAKey | ECKey = field(default_factory=lambda: make_rsa("first"))
    algorithm: str = "RS256"
    published: list[RSAKey | ECKey] | None = None
    """What its key set holds; its own key by default."""
    extra_keys: list[dict[str, Any]] = field(default_factory=list)
    metadata: dict[str, Any] = field(default_factory=dict)
    """What its metadata says besides, or differently."""
    issuer_in_answers: bool = False
    forge: Callable[[dict[str, Any]], str | None] | None = None
    """Makes the ID token out of genuine claims; None leaves it out."""
    info: dict[str, Any] | None = None
    """What `/info` (and `/userinfo`) say instead of the claims."""
    record: dict[str, Any] | None = None
    """What `/users/…` says."""
    behave: dict[str, Manner] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    tokens: dict[str, Grant] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    @property
    def issuer(self) -> str:
        """Its name."""
        return self.url

    @property
    def exchanges(self) -> int:
        """How often its token endpoint was asked."""
        return self.count("/token")

    def count(self, path: str) -> int:
        """How often a path was asked for."""
        return sum(asked == path for asked, _, _ in self.asked)

    def approve(self, url: str, subject: str = "u-1", *, code: str | None = None, **claims: Any) -> str:
        """What the browser is sent back to after somebody signed in at the authorization URL; our path and query."""
        parts = urlsplit(url)
        assert f"{parts.scheme}://{parts.netloc}{parts.path}" == f"{self.url}/authorize", url
        asked = {name: value for name, [value] in parse_qs(parts.query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT_ID
        code = code or secrets.token_urlsafe(16)
        self.grants[code] = Grant(
            asked["redirect_uri"], asked.get("nonce"), asked.get("code_challenge"), {"sub": subject, **claims}
        )
        answer = {"code": code, "state": asked["state"]} | ({"iss": self.issuer} if self.issuer_in_answers else {})
        return f"{urlsplit(asked['redirect_uri']).path}?{urlencode(answer)}"

    def make_claims(self, grant: Grant, access_token: str) -> dict[str, Any]:
        """The claims of a genuine ID token."""
        now = int(self.clock.now().timestamp())
        standard = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + 3600, "nonce": grant.nonce}
        claims = standard | {"at_hash": hash_half(access_token)} | grant.claims
        return {name: value for name, value in claims.items() if value is not None}

    def sign(self, claims: object, **header: Any) -> str:
        """An ID token with its own key."""
        whole = {"alg": self.algorithm, "kid": self.key.kid, "typ": "JWT"} | header
        return sign({name: value for name, value in whole.items() if value is not None}, claims, self.key)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        """The answer of an honest provider."""
        if path == "/.well-known/openid-configuration":
            return 200, self._describe()
        if path == "/jwks":
            keys = self.published if self.published is not None else [self.key]
            return 200, {"keys": [*(key.as_dict(private=False) for key in keys), *self.extra_keys]}
        if path == "/token" and method == "POST":
            return self._exchange(headers, body)
        grant = self.tokens.get(headers.get("authorization", "").removeprefix("Bearer "))
        if path in {"/info", "/userinfo"} and grant is not None:
            return 200, grant.claims if self.info is None else self.info
        if path.startswith("/users/") and grant is not None:
            return 200, self.record or {}
        return 401 if grant is None else 404, {}

    def _describe(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/jwks",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": self.issuer_in_answers,
            "id_token_signing_alg_values_supported": ["RS256"],
        } | self.metadata

    def _exchange(self, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        as_json = headers.get("content-type") == "application/json"
        asked: dict[str, str] = msgspec.json.decode(body) if as_json else dict(parse_qsl(body.decode()))
        basic = headers.get("authorization", "").removeprefix("Basic ")
        if basic:
            client, _, secret = base64.b64decode(basic).decode().partition(":")
            client, secret = unquote_plus(client), unquote_plus(secret)
        else:
            client, secret = asked.get("client_id", ""), asked.get("client_secret", "")
        if (client, secret) != (CLIENT_ID, SECRET):
            return 401, {"error": "invalid_client"}
        grant = self.grants.get(asked["code"])
        verifier = asked.get("code_verifier", "").encode()
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier).digest()).rstrip(b"=").decode()
        if (
            grant is None
            or grant.used
            or asked["grant_type"] != "authorization_code"
            or asked["redirect_uri"] != grant.redirect_uri
            or grant.challenge not in (None, challenge)
        ):
            return 400, {"error": "invalid_grant"}
        grant.used = True
        access_token = secrets.token_urlsafe(16)
        self.tokens[access_token] = grant
        claims = self.make_claims(grant, access_token)
        id_token = self.sign(claims) if self.forge is None else self.forge(claims)
        said = {"access_token": access_token, "token_type": "Bearer", "expires_in": 86_400}
        return 200, said if id_token is None else {**said, "id_token": id_token}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, which is closed after the answer."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            method, target, _ = head.split(" ", 2)
            path = urlsplit(target).path
            self.asked.append((path, headers, body))
            manner = self.behave.get(path)
            if manner is None:
                status, said = self.answer(method, path, headers, body)
                await _write(writer, status, msgspec.json.encode(said))
            else:
                await _misbehave(writer, manner)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@cache
def _list_bad_answers() -> dict[Manner, tuple[int, bytes, str, str]]:
    """Status, body, more headers, and the body's kind, of answers one should not read or go by."""
    json = "application/json"
    return {
        "huge": (200, HUGE, "", json),
        "bomb": (200, gzip.compress(b" " * 60_000_000, 9), "Content-Encoding: gzip\r\n", json),
        "redirect": (302, b"", "Location: http://127.0.0.1:9/elsewhere\r\n", json),
        "html": (200, b"<!doctype html><p>Down for maintenance</p>", "", "text/html"),
        "error": (500, b'{"error":"server_error"}', "", json),
        "refuse": (400, b'{"error":"invalid_grant","error_description":"<script>"}', "", json),
        "not-json": (200, b'{"issuer": ', "", json),
        "list": (200, b"[" * 100_000, "", json),
    }


async def _misbehave(writer: asyncio.StreamWriter, manner: Manner) -> None:
    """What servers do that one should not wait for, nor believe."""
    match manner:
        case "slow":
            await asyncio.sleep(30)
        case "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            for _ in range(300):
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.1)
        case "flood":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while True:
                writer.write(b" " * 65_536)
                await writer.drain()
        case "hang-up":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
        case _:
            status, body, more, kind = _list_bad_answers()[manner]
            await _write(writer, status, body, more, kind)


async def _write(
    writer: asyncio.StreamWriter, status: int, body: bytes, more: str = "", kind: str = "application/json"
) -> None:
    head = f"HTTP/1.1 {status} So\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n"
    writer.write(head.encode() + b"\r\n" + body)
    await writer.drain()


@asynccontextmanager
async def playing_provider(clock: Clock, **fields: Any) -> AsyncIterator[PlayedProvider]:
    """A provider on loopback; `fields` are its own."""
    provider = PlayedProvider(clock, **fields)
    running: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            running.add(task)
            task.add_done_callback(running.discard)
        await provider.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    provider.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield provider
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
