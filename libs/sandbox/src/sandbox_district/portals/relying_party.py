"""The sample product's side of OpenID Connect, done by pyoidc, a certified library: nothing of the protocol is ours.

Everything here waits for the network and belongs into a thread.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import requests
from jwkest import JWKESTException  # type: ignore[import-untyped]  # the library under oic has no types
from oic import oic as _library
from oic.exception import PyoidcError
from oic.oic import message as _messages
from oic.utils.authn.client import CLIENT_AUTHN_METHOD

# The library's types cover a part of it only.
oic: Any = _library
messages: Any = _messages
SECONDS: Final = 10.0
METADATA_SECONDS: Final = 60.0
_TECHNICAL: Final = frozenset(
    {"iss", "aud", "exp", "iat", "nonce", "at_hash", "auth_time", "azp", "sid", "jti", "acr", "amr"}
)
"""Claims of an ID token that say nothing of the person."""


class SignInError(Exception):
    """Nobody was signed in; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Who signs the product's people in, and what the product is there."""

    issuer: str
    client_id: str
    client_secret: str
    scopes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Begun:
    """A sign-in that was begun."""

    state: str
    url: str
    client: Any = field(repr=False)
    verifier: str = field(repr=False)
    redirect_uri: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who came in."""

    claims: dict[str, Any]
    id_token: str = field(repr=False)
    sid: str | None


@dataclass(frozen=True, slots=True)
class LinkAnswer:
    """What became of a request to connect an account: where to send the browser, or what was said instead."""

    url: str | None
    said: dict[str, Any]


class RelyingParty:
    """The product as a client of one provider."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._session = requests.Session()
        self._session.trust_env = False
        self._metadata: tuple[float, Any, Any] | None = None

    def begin(self, redirect_uri: str, login_hint: str | None, extra: dict[str, str]) -> Begun:
        """Where a browser is sent to sign in. Raises `SignInError`."""
        client = self._make_client(redirect_uri)
        challenge, verifier = client.add_code_challenge()
        state = secrets.token_urlsafe(24)
        asked = {
            "client_id": self.settings.client_id,
            "response_type": "code",
            "scope": list(self.settings.scopes),
            "redirect_uri": redirect_uri,
            "state": state,
            "nonce": secrets.token_urlsafe(24),
            **challenge,
            **extra,
            **({} if login_hint is None else {"login_hint": login_hint}),
        }
        request = client.construct_AuthorizationRequest(request_args=asked)
        client.state2nonce[state] = asked["nonce"]
        return Begun(state, request.request(client.authorization_endpoint), client, verifier, redirect_uri)

    def finish(self, begun: Begun, query: str) -> SignedIn:
        """Who came back. Raises `SignInError`."""
        client, state = begun.client, begun.state
        try:
            answer = client.parse_response(messages.AuthorizationResponse, info=query, sformat="urlencoded")
            if answer is None or "error" in answer or answer["state"] != state:
                raise SignInError(f"The provider says: {_tell(answer)}.")
            told = client.do_access_token_request(
                state=state,
                request_args={
                    "code": answer["code"],
                    "redirect_uri": begun.redirect_uri,
                    "code_verifier": begun.verifier,
                },
                authn_method="client_secret_basic",
            )
            if "id_token" not in told:
                raise SignInError(f"The provider gave no ID token: {_tell(told)}.")
            id_token = told["id_token"]
            info = client.do_user_info_request(state=state, method="GET")
        except (PyoidcError, JWKESTException, requests.RequestException, ValueError, KeyError) as error:
            raise SignInError(f"The answer was not accepted ({type(error).__name__}).") from error
        if info.get("sub") != id_token["sub"]:
            raise SignInError("Userinfo is about somebody else.")
        every = {**id_token.to_dict(), **info.to_dict()}
        claims = {name: value for name, value in every.items() if name not in _TECHNICAL}
        return SignedIn(claims, id_token.jwt, id_token.get("sid"))

    def end(self, signed_in: SignedIn, back: str) -> str | None:
        """Where a browser is sent to sign out at the provider as well; None if it has no such place."""
        client = self._make_client(back)
        if not client.end_session_endpoint:
            return None
        request = messages.EndSessionRequest(
            id_token_hint=signed_in.id_token, post_logout_redirect_uri=back, client_id=self.settings.client_id
        )
        url: str = request.request(client.end_session_endpoint)
        return url

    def read_logout(self, token: str) -> tuple[str | None, str | None]:
        """Whom a logout token is about: sid and subject. Raises `SignInError` if it is not genuine."""
        client = self._make_client("")
        request = messages.BackChannelLogoutRequest(logout_token=token)
        try:
            request.verify(
                keyjar=client.keyjar, iss=self.settings.issuer, aud=self.settings.client_id, sender=self.settings.issuer
            )
        except (PyoidcError, JWKESTException, ValueError, KeyError) as error:
            raise SignInError("The logout token is not genuine.") from error
        read = request["logout_token"]
        return read.get("sid"), read.get("sub")

    def ask_link(self, external_id: str, label: str, signed_in_at: float, return_to: str) -> LinkAnswer:
        """Ask to have an account connected with who its owner is at school."""
        body = {
            "external_id": external_id,
            "label": label,
            "return_to": return_to,
            "auth_time": datetime.fromtimestamp(signed_in_at, UTC).isoformat(),
            "other_sign_in": True,
        }
        answer = self._call("POST", "/v1/account-links", body)
        said = _read(answer)
        return LinkAnswer(said.get("url") if answer.ok else None, said)

    def read_link(self, request_id: str) -> dict[str, Any]:
        """What became of it."""
        return _read(self._call("GET", f"/v1/account-links/{request_id}", None))

    def _call(self, method: str, path: str, body: dict[str, Any] | None) -> requests.Response:
        client = self._make_client("")
        token = self._session.post(
            client.token_endpoint,
            data={"grant_type": "client_credentials", "scope": "accounts.write"},
            auth=(self.settings.client_id, self.settings.client_secret),
            timeout=SECONDS,
        )
        headers = {"Authorization": f"Bearer {_read(token).get('access_token', '')}"}
        return self._session.request(
            method, self.settings.issuer + path, json=body, headers=headers, timeout=SECONDS, allow_redirects=False
        )

    def _make_client(self, redirect_uri: str) -> Any:
        """A client of the library for one sign-in, with metadata and keys that are at most a minute old."""
        settings = oic.OicClientSettings(timeout=SECONDS, verify_ssl=True, requests_session=self._session)
        client = oic.Client(client_authn_method=CLIENT_AUTHN_METHOD, settings=settings, config={})
        kept = self._metadata
        try:
            if kept is None or kept[0] < time.monotonic():
                metadata = client.provider_config(self.settings.issuer)
                self._metadata = (time.monotonic() + METADATA_SECONDS, metadata, client.keyjar)
            else:
                client.keyjar = kept[2]
                client.handle_provider_config(kept[1], self.settings.issuer, keys=False)
        except (PyoidcError, requests.RequestException, ValueError) as error:
            raise SignInError("The provider's metadata can't be read.") from error
        client.store_registration_info(
            messages.RegistrationResponse(
                client_id=self.settings.client_id,
                client_secret=self.settings.client_secret,
                redirect_uris=[redirect_uri],
                id_token_signed_response_alg="RS256",  # noqa: S106 - an algorithm
            )
        )
        return client


def _tell(answer: Any) -> str:
    found = {} if answer is None else answer.to_dict()
    return " ".join(str(found[name]) for name in ("error", "error_description") if name in found) or "nothing"


def _read(answer: requests.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {"status": answer.status_code}
    return found if isinstance(found, dict) else {"status": answer.status_code}
