"""What a product asks for at the authorization endpoint, read strictly and without input or output.

Only the code flow with PKCE (S256) is offered, to every client (RFC 9700 §2.1). What is wrong about the client or its
redirect URI is told to the person in front of the browser; everything else goes back to the product.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Literal
from uuid import UUID

import msgspec

from homeroom.codes import Code
from sso.launch.refusals import Refused
from sso.provider.claims import SCOPES
from sso.provider.relying_parties import RelyingParty

PROMPTS: Final = ("none", "login", "select_account")
_IGNORED_PROMPTS: Final = frozenset({"consent"})
"""What districts agreed to stands in their licenses; nobody else is asked."""
RESPONSE_MODES: Final = ("query", "form_post")
MOST_QUERY: Final = 8_000
"""Characters of a whole request."""
MOST_STATE: Final = 2_000
MOST_NONCE: Final = 500
MOST_HINT: Final = 4_000
_CHALLENGE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
"""An S256 challenge: 32 bytes in base64url (RFC 7636 §4.2)."""
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")
_LOCAL: Final = ("client_id", "redirect_uri")

ResponseMode = Literal["query", "form_post"]
Step = Literal["answer", "sign in", "sign in anew", "choose"]
"""What comes next: the code; signing in; signing in anew at the portal; or saying which school first."""


class AuthorizationRequest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A request that may be answered.

    Args:
        challenge: PKCE's, S256.
        prompts: of OpenID Connect Core §3.1.2.1.
        max_age: seconds since the person last signed in, at most.
        login_hint: as sent; ours begin with `hints.PREFIX`.
        id_token_hint: likewise.
        subject: who it must be, as this product calls them; None for anybody.
        connection: the way in that the product knows already.
        organization: the district it knows already.
    """

    client_id: str
    redirect_uri: str
    scopes: tuple[str, ...]
    challenge: str
    state: str | None = None
    nonce: str | None = None
    response_mode: ResponseMode = "query"
    prompts: tuple[str, ...] = ()
    max_age: int | None = None
    login_hint: str | None = None
    id_token_hint: str | None = None
    subject: str | None = None
    connection: UUID | None = None
    organization: UUID | None = None


class Declined(Exception):  # noqa: N818 - what happened to the request
    """A request is answered with an error (RFC 6749 §4.1.2.1, OIDC Core §3.1.2.6).

    Args:
        error: in the standard's words.
        description: a plain sentence for the product's developers.
    """

    def __init__(self, error: str, description: str) -> None:
        super().__init__(f"{error}: {description}")
        self.error = error
        self.description = description


def read_parameters(pairs: Sequence[tuple[str, str]]) -> tuple[dict[str, str], frozenset[str]]:
    """The parameters, and the names of those that were sent more than once. Raises `Refused` where that is fatal.

    Which client it is and where it wants the answer must be certain before anything is sent there.
    """
    if sum(len(name) + len(value) for name, value in pairs) > MOST_QUERY:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the request is too long", status=400)
    fields = dict(pairs)
    repeated = frozenset(name for name in fields if sum(name == other for other, _ in pairs) > 1)
    for name in _LOCAL:
        if name in repeated or not fields.get(name):
            raise Refused(Code.SIGNIN_REQUEST_INVALID, f"{name} is missing, or there twice", status=400)
    return fields, repeated


def check_redirect(redirect_uri: str, party: RelyingParty) -> None:
    """Raise `Refused` unless a redirect URI is registered, character by character (RFC 9700 §2.1)."""
    if redirect_uri not in party.redirect_uris:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "the redirect URI is not registered", status=400)


def read_response_mode(fields: Mapping[str, str]) -> ResponseMode:
    """How the answer travels; errors about anything else travel this way, too."""
    return "form_post" if fields.get("response_mode") == "form_post" else "query"


def read_request(fields: Mapping[str, str], repeated: frozenset[str]) -> AuthorizationRequest:
    """Understand a request of a client whose redirect URI was checked. Raises `Declined`."""
    if repeated:
        raise Declined("invalid_request", "A parameter was sent more than once.")
    _refuse_unsupported(fields)
    return AuthorizationRequest(
        client_id=fields["client_id"],
        redirect_uri=fields["redirect_uri"],
        scopes=_read_scopes(fields),
        challenge=_read_challenge(fields),
        state=read_state(fields, MOST_STATE),
        nonce=_read_text(fields, "nonce", MOST_NONCE),
        response_mode=read_response_mode(fields),
        prompts=_read_prompts(fields),
        max_age=_read_max_age(fields),
        login_hint=_read_text(fields, "login_hint", MOST_HINT),
        id_token_hint=_read_text(fields, "id_token_hint", MOST_HINT),
        connection=_read_id(fields, "connection"),
        organization=_read_id(fields, "organization"),
    )


def read_state(fields: Mapping[str, str], most: int = MOST_STATE) -> str | None:
    """The state to send back. Raises `Declined` if it can't be."""
    return _read_text(fields, "state", most)


def decide(
    request: AuthorizationRequest, auth_time: datetime | None, now: datetime, *, somebody_else: bool = False
) -> Step:
    """What comes next. Raises `Declined` with login_required where nobody may be asked (OIDC Core §3.1.2.1).

    Args:
        request: what the product wants.
        auth_time: when whoever is signed in here did so; None if nobody is.
        now: the present moment.
        somebody_else: whether the product expects somebody else than who is signed in.
    """
    stale = auth_time is not None and request.max_age is not None and _is_over(auth_time, request.max_age, now)
    if "none" in request.prompts:
        if auth_time is None or stale or somebody_else:
            raise Declined("login_required", "Nobody is signed in, not recently enough, or somebody else is.")
        return "answer"
    if "select_account" in request.prompts:
        return "choose"
    if auth_time is None:
        return "sign in"
    return "sign in anew" if stale or somebody_else or "login" in request.prompts else "answer"


def _is_over(auth_time: datetime, max_age: int, now: datetime) -> bool:
    """Whether a sign-in is longer ago than it may be; with 0 any is, whatever the clocks say."""
    return max_age == 0 or now - auth_time > timedelta(seconds=max_age)


def _refuse_unsupported(fields: Mapping[str, str]) -> None:
    if "request" in fields:
        raise Declined("request_not_supported", "Request objects are not taken.")
    if "request_uri" in fields:
        raise Declined("request_uri_not_supported", "Request objects are not fetched.")
    if fields.get("response_type") != "code":
        error = "unsupported_response_type" if fields.get("response_type") else "invalid_request"
        raise Declined(error, "Only response_type=code is offered.")
    if fields.get("response_mode", "query") not in RESPONSE_MODES:
        raise Declined("invalid_request", f"The response_mode must be one of: {' '.join(RESPONSE_MODES)}.")


def _read_scopes(fields: Mapping[str, str]) -> tuple[str, ...]:
    """The scopes that are known; others are passed over (OIDC Core §3.1.2.1)."""
    asked = fields.get("scope", "").split()
    if "openid" not in asked:
        raise Declined("invalid_scope", "The scope must hold openid.")
    return tuple(sorted(SCOPES & set(asked)))


def _read_challenge(fields: Mapping[str, str]) -> str:
    """The challenge of PKCE, which nobody goes without."""
    if fields.get("code_challenge_method") != "S256" or not _CHALLENGE.fullmatch(fields.get("code_challenge", "")):
        raise Declined("invalid_request", "PKCE is required: code_challenge with code_challenge_method=S256.")
    return fields["code_challenge"]


def _read_prompts(fields: Mapping[str, str]) -> tuple[str, ...]:
    prompts = fields.get("prompt", "").split()
    if not set(prompts) <= {*PROMPTS, *_IGNORED_PROMPTS} or ("none" in prompts and len(prompts) > 1):
        raise Declined("invalid_request", f"The prompt must be of these, and none alone: {' '.join(PROMPTS)}.")
    return tuple(prompt for prompt in PROMPTS if prompt in prompts)


def _read_max_age(fields: Mapping[str, str]) -> int | None:
    text = fields.get("max_age")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Declined("invalid_request", "The max_age must be a number of seconds.")
    return int(text)


def _read_id(fields: Mapping[str, str], name: str) -> UUID | None:
    text = fields.get(name)
    if text is None:
        return None
    try:
        return UUID(text)
    except ValueError:
        raise Declined("invalid_request", f"The {name} must be an id of ours.") from None


def _read_text(fields: Mapping[str, str], name: str, most: int) -> str | None:
    text = fields.get(name)
    if text is not None and (len(text) > most or _UNPRINTABLE.search(text)):
        raise Declined("invalid_request", f"The {name} is too long, or holds control characters.")
    return text
