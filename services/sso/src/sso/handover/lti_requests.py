"""What a tool asks for in the second step of an LTI launch, and whether it fits what was begun (Security 1.0 §5.1.1).

Everything that does not fit ends in a page of ours: no address of the request is followed before it is known to be
the tool's, and an error that is posted to a tool helps nobody who sits in front of it.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from homeroom.codes import Code
from sso.handover.lti_settings import LtiSettings
from sso.handover.passes import Pass
from sso.launch.flows import hash_token
from sso.launch.refusals import Refused

LONGEST: Final = 4_000
"""Characters of a parameter; a tool's `state` may be a signed token."""
_FIXED: Final = {"response_type": "id_token", "response_mode": "form_post", "prompt": "none"}
_NEEDED: Final = ("client_id", "redirect_uri", "login_hint", "lti_message_hint", "nonce")
KNOWN: Final = frozenset({*_FIXED, *_NEEDED, "scope", "state", "lti_deployment_id", "target_link_uri"})


@dataclass(frozen=True, slots=True)
class LtiRequest:
    """An authentication request of a tool, complete and of the one kind there is."""

    client_id: str
    redirect_uri: str
    login_hint: str = field(repr=False)
    lti_message_hint: str = field(repr=False)
    nonce: str = field(repr=False)
    state: str | None = field(repr=False)
    deployment_id: str | None
    target_link_uri: str | None


def pick_parameters(items: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The parameters that mean something here. Raises `Refused` for one that is there twice, or too long."""
    known = [(name, value) for name, value in items if name in KNOWN]
    picked = dict(known)
    if len(picked) != len(known):
        raise _refuse("a parameter was sent twice")
    if any(len(value) > LONGEST or "\0" in value for value in picked.values()):
        raise _refuse("a parameter is too long")
    return picked


def read_request(items: Sequence[tuple[str, str]]) -> LtiRequest:
    """Understand a tool's request. Raises `Refused` SIGNIN_REQUEST_INVALID."""
    picked = pick_parameters(items)
    if picked.get("scope", "").split() != ["openid"]:
        raise _refuse("scope must be openid")
    for name, value in _FIXED.items():
        if picked.get(name) != value:
            raise _refuse(f"{name} must be {value}")
    for name in _NEEDED:
        if not picked.get(name):
            raise _refuse(f"{name} is missing")
    return LtiRequest(
        **{name: picked[name] for name in _NEEDED},
        state=picked.get("state"),
        deployment_id=picked.get("lti_deployment_id"),
        target_link_uri=picked.get("target_link_uri"),
    )


def check_hint(asked: LtiRequest, begun: Pass) -> None:
    """Whether the two hints were given out together. Raises `Refused`."""
    if not hmac.compare_digest(begun.login_hash or b"", hash_token(asked.login_hint)):
        raise Refused(Code.SIGNIN_FLOW_LOST, "login_hint is of another launch")


def check_request(asked: LtiRequest, begun: Pass, tool: LtiSettings, *, deployment_id: str, target: str) -> None:
    """Whether a request is that of the tool the launch goes to, and about that launch. Raises `Refused`.

    Args:
        asked: the request.
        begun: the launch.
        tool: as it is registered now.
        deployment_id: of the organization somebody comes from, as of now.
        target: the registered address the launch leads to.
    """
    if asked.client_id != tool.client_id:
        raise _refuse("client_id is another tool's")
    if asked.redirect_uri not in tool.redirect_uris:
        raise _refuse("redirect_uri is not registered")
    if deployment_id != begun.deployment_id or asked.deployment_id not in (None, deployment_id):
        raise _refuse("another deployment")
    if asked.target_link_uri not in (None, target):
        raise _refuse("target_link_uri is not the one that is registered")


def _refuse(why: str) -> Refused:
    return Refused(Code.SIGNIN_REQUEST_INVALID, why, status=400)
