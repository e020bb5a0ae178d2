"""How somebody is sent to a SAML identity provider: by an AuthnRequest in the URL (SAML profiles §4.1.4.1)."""

from __future__ import annotations

import secrets
from base64 import b64encode
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

from lxml import etree

from homeroom.clock import Clock
from sso.connections.upstreams import Upstream
from sso.launch.flows import Flow, Flows, Intent
from sso.launch.traces import Trace
from sso.saml.documents import Element, deflate
from sso.saml.encryption import read_key
from sso.saml.names import POST, SAML, SAMLP, tag
from sso.saml.service_provider import ServiceProvider, describe_service_provider
from sso.saml.signatures import RSA_SHA256, sign_query
from sso.saml.times import write_time

_PREFIXES: Final = {"samlp": SAMLP, "saml": SAML}


class SamlSignIn:
    """Sends people to SAML identity providers; a protocol of `Launching`."""

    def __init__(self, flows: Flows, clock: Clock, issuer: str) -> None:
        self._flows = flows
        self._clock = clock
        self._issuer = issuer

    async def start(self, upstream: Upstream, intent: Intent, trace: Trace, browser: str) -> str:
        """Keep a flow under the request's id, and say where the browser goes.

        No RelayState is sent: all we need is kept here, and nothing of it would be believed.
        """
        request_id = make_id()
        await self._flows.begin(
            request_id, browser, upstream, Flow(trace.id, trace.support_id, upstream.id, intent), trace
        )
        ours = describe_service_provider(self._issuer, upstream)
        request = write_authn_request(request_id, ours, upstream, self._clock.now(), fresh=intent.fresh)
        return address(upstream.saml.sso_url, "SAMLRequest", request)


def make_id() -> str:
    """An id for a message of ours, which nobody guesses."""
    return f"_{secrets.token_hex(20)}"


def write_authn_request(
    request_id: str, ours: ServiceProvider, upstream: Upstream, now: datetime, *, fresh: bool
) -> bytes:
    """An AuthnRequest. With `fresh` the identity provider is to ask for credentials, whoever it knows already."""
    config = upstream.saml
    root = start_message("samlp:AuthnRequest", request_id, config.sso_url, ours, now)
    root.set("ProtocolBinding", POST)
    root.set("AssertionConsumerServiceURL", ours.acs_url)
    if fresh:
        root.set("ForceAuthn", "true")
    if config.name_id_format is not None:
        policy = {"Format": config.name_id_format, "AllowCreate": "true"}
        etree.SubElement(root, tag("samlp:NameIDPolicy"), policy)
    return etree.tostring(root)


def start_message(name: str, message_id: str, destination: str, ours: ServiceProvider, now: datetime) -> Element:
    """The beginning of every message of ours: who says it, to whom, and when."""
    said = {"ID": message_id, "Version": "2.0", "IssueInstant": write_time(now), "Destination": destination}
    root = etree.Element(tag(name), said, _PREFIXES)
    etree.SubElement(root, tag("saml:Issuer")).text = ours.entity_id
    return root


def address(
    url: str, parameter: str, message: bytes, *, relay_state: str | None = None, private_key: str | None = None
) -> str:
    """A URL that brings a message by the redirect binding (SAML bindings §3.4.4.1), signed if there is a key."""
    query = urlencode({parameter: b64encode(deflate(message))})
    if relay_state is not None:
        query += f"&{urlencode({'RelayState': relay_state})}"
    if private_key is not None:
        query += f"&{urlencode({'SigAlg': RSA_SHA256})}"
        query += f"&{urlencode({'Signature': b64encode(sign_query(query, read_key(private_key)))})}"
    return f"{url}{'&' if '?' in url else '?'}{query}"
