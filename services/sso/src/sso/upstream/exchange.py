"""Exchanges a code for tokens, once, and asks with the access token whom it is about (RFC 6749 §4.1.3)."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import parse_qsl, quote, quote_plus

import httpx2
import msgspec
from authlib.oauth2.rfc6749.parameters import prepare_token_request

from homeroom.codes import Code
from sso.connections.quirks import Quirks
from sso.connections.upstreams import Upstream
from sso.launch.refusals import Refused
from sso.upstream.discovery import ProviderMetadata
from sso.upstream.fetching import Fetched, Fetching, NotFetched

MOST_TOKEN: Final = 16_000
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_KNOWN_ERRORS: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    }
)
_BASIC: Final = "client_secret_basic"
_POST: Final = "client_secret_post"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a code was exchanged for."""

    access_token: str = field(repr=False)
    id_token: str | None = field(repr=False)


async def exchange_code(
    fetching: Fetching,
    upstream: Upstream,
    metadata: ProviderMetadata,
    quirks: Quirks,
    *,
    code: str,
    redirect_uri: str,
    code_verifier: str,
) -> Tokens:
    """Exchange a code; there is one try only. Raises `Refused`."""
    asked = {"code": code, "redirect_uri": redirect_uri, "code_verifier": code_verifier or None}
    headers, credentials = _authenticate(upstream, metadata, quirks)
    content, kind = _write(quirks, {**asked, **credentials})
    headers |= {"Content-Type": kind, "Accept": "application/json"}
    try:
        answer = await fetching.post(metadata.token_endpoint, content, headers)
        if answer.status != httpx2.codes.OK:
            raise _judge(answer)
        return _read_tokens(answer.read_json(), openid=upstream.oidc.openid)
    except NotFetched as error:
        raise away("token endpoint", error) from None


async def ask_about(fetching: Fetching, url: str, access_token: str) -> Mapping[str, Any]:
    """What a portal says of whom an access token is about; the token is one we have just been given for a code.

    Raises `Refused`.
    """
    try:
        said = await fetching.get_json(url, {"Authorization": f"Bearer {access_token}"})
    except NotFetched as error:
        if error.word == "status" and error.status in {401, 403}:
            why = "the portal does not say whom its token is about"
            raise Refused(Code.SIGNIN_TOKEN_INVALID, why) from None
        raise away("user information", error) from None
    wrapped = said.get("data")
    return wrapped if isinstance(wrapped, dict) else said


def move_record(url: str, record: str, of: str) -> str:
    """The URL of a second question beside the first one's, as where a portal is played on another host.

    Args:
        url: what is asked first, as the connection has it.
        record: the second question's URL, as the portal itself has it.
        of: the first question's, as the portal itself has it.
    """
    return url.rpartition("/")[0] + record.removeprefix(of.rpartition("/")[0])


def fill_record(record: str, user_id: str) -> str:
    """The URL of a second question about somebody."""
    return record.replace("{id}", quote(user_id, safe=""))


def away(what: str, error: NotFetched) -> Refused:
    """A refusal, because a portal's server gave no usable answer."""
    return Refused(Code.SIGNIN_UPSTREAM_AWAY, f"{what}: {error.word}", status=503)


def _authenticate(
    upstream: Upstream, metadata: ProviderMetadata, quirks: Quirks
) -> tuple[dict[str, str], dict[str, str]]:
    """How we show who we are: headers, or fields of the body."""
    client_id, secret = upstream.oidc.client_id, upstream.secret
    if secret is None:
        return {}, {"client_id": client_id}
    usual, other = (_BASIC, _POST) if quirks.client_auth == "basic" else (_POST, _BASIC)
    offered = metadata.auth_methods
    method = other if usual not in offered and other in offered else usual
    if method == _POST:
        return {}, {"client_id": client_id, "client_secret": secret}
    pair = f"{quote_plus(client_id)}:{quote_plus(secret)}"
    return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}, {}


def _write(quirks: Quirks, fields: Mapping[str, str | None]) -> tuple[bytes, str]:
    """The request's body and what it is."""
    form: str = prepare_token_request("authorization_code", **fields)
    if quirks.exchange_as == "json":
        return msgspec.json.encode(dict(parse_qsl(form))), "application/json"
    return form.encode(), "application/x-www-form-urlencoded"


def _judge(answer: Fetched) -> Refused:
    """What a token endpoint's status other than 200 means."""
    if answer.status >= httpx2.codes.INTERNAL_SERVER_ERROR or answer.status == httpx2.codes.TOO_MANY_REQUESTS:
        return Refused(Code.SIGNIN_UPSTREAM_AWAY, f"token endpoint: status {answer.status}", status=503)
    try:
        said = answer.read_json()
    except NotFetched:
        said = None
    error = said.get("error") if isinstance(said, dict) else None
    known = error if isinstance(error, str) and error in _KNOWN_ERRORS else f"status {answer.status}"
    return Refused(Code.SIGNIN_TOKEN_INVALID, f"token endpoint: {known}")


def _read_tokens(said: object, *, openid: bool) -> Tokens:
    if not isinstance(said, dict):
        raise NotFetched("unreadable", "What was answered is JSON, but no object.")
    access_token, id_token = said.get("access_token"), said.get("id_token")
    if not isinstance(access_token, str) or len(access_token) > MOST_TOKEN or not _TOKEN.fullmatch(access_token):
        raise Refused(Code.SIGNIN_TOKEN_INVALID, "no access token")
    if str(said.get("token_type", "bearer")).lower() != "bearer":
        raise Refused(Code.SIGNIN_TOKEN_INVALID, "another type of access token")
    if not openid:
        return Tokens(access_token, None)
    if not isinstance(id_token, str):
        raise Refused(Code.SIGNIN_TOKEN_INVALID, "no ID token")
    return Tokens(access_token, id_token)
