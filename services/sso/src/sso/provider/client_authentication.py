"""Which relying party calls: by its secret, or, for one that is public, by its name alone (RFC 6749 §2.3)."""

from __future__ import annotations

from typing import Final

from homeroom.codes import Code
from sso.clients import Client, Clients
from sso.launch.refusals import Refused
from sso.launch.throttle import Throttle
from sso.provider.relying_parties import RelyingParties, RelyingParty
from sso.tokens import TokenDenied

FAILURES: Final = 300
FAILURES_SECONDS: Final = 300.0


class ClientAuthentication:
    """Checks clients' secrets; `app.state.client_authentication`.

    Whoever fails too often is told to wait, which spares us nothing but noise: secrets are random, and a right one is
    always taken. Nobody can shut a product out by guessing in its name.
    """

    def __init__(self, clients: Clients, parties: RelyingParties, throttle: Throttle) -> None:
        self._clients = clients
        self._parties = parties
        self._throttle = throttle

    async def check(self, client_id: str, secret: str, address: str) -> Client:
        """The client whose secret this is. Raises `TokenDenied` CLIENT_INVALID or SIGNIN_THROTTLED."""
        client = await self._clients.authenticate(client_id, secret)
        if client is not None:
            return client
        key = f"{client_id[:100]} {address}"
        self._throttle.fail(key)
        try:
            self._throttle.check(key)
        except Refused as refused:
            raise TokenDenied(refused.code, "There were too many attempts with a wrong secret.") from None
        raise TokenDenied(Code.CLIENT_INVALID, "No client has this id and this secret.")

    async def find_party(self, client_id: str, secret: str, address: str) -> RelyingParty:
        """The relying party that calls. Raises `TokenDenied` as `check`; also for a client that is none."""
        party = await self._parties.find(client_id)
        if party is not None and party.public and not secret:
            return party
        await self.check(client_id, secret, address)
        if party is None:
            raise TokenDenied(Code.CLIENT_INVALID, "This client is not set up to sign people in.")
        return party
