"""From what an admin entered to the configuration of an OpenID provider, and back; addresses are judged here.

A secret is only ever sent where it was entered for: whoever changes where we talk to, or as whom, enters it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, TypeVar

import msgspec
from pydantic import BaseModel, ValidationError

from homeroom.codes import Code
from homeroom.endpoints import object_to
from homeroom.problems import Problem
from sso.connections.bodies import Complaint, OidcBody
from sso.connections.quirks import QUIRKS
from sso.connections.upstreams import Kind, OidcConfig

ADDRESSES: Final = (
    "issuer",
    "discovery_url",
    "authorization_endpoint",
    "token_endpoint",
    "jwks_uri",
    "userinfo_endpoint",
    "info_url",
)
BOUND: Final = (*ADDRESSES, "client_id")
"""What a client secret is bound to."""

Body = TypeVar("Body", bound=BaseModel)


def enter_oidc(kind: Kind, body: OidcBody, *, allow_private: bool) -> tuple[OidcConfig, str | None]:
    """A configuration and the secret that came with it, if one did. Problems REQUEST_INVALID, ENDPOINT_REFUSED."""
    entered = body.model_dump(exclude={"client_secret"}, exclude_none=True)
    issuer = entered.pop("issuer", None) or QUIRKS[kind].issuer
    if issuer is None:
        raise refuse([("oidc.issuer", "this kind of provider has no issuer of its own, so enter it")])
    judge({name: entered.get(name) for name in ADDRESSES} | {"issuer": issuer}, "oidc", allow_private=allow_private)
    secret = body.client_secret
    return OidcConfig(issuer=issuer, **entered), None if secret is None else secret.get_secret_value()


def change_oidc(
    kind: Kind, before: OidcConfig, wish: Mapping[str, Any], *, allow_private: bool
) -> tuple[OidcConfig, str | None]:
    """A configuration with some fields entered anew; null takes a field back.

    Problems REQUEST_INVALID, ENDPOINT_REFUSED, SECRET_REQUIRED.
    """
    stored: dict[str, Any] = msgspec.to_builtins(before)
    after, secret = enter_oidc(kind, check(OidcBody, stored, wish, "oidc"), allow_private=allow_private)
    if secret is None and any(getattr(before, name) != getattr(after, name) for name in BOUND):
        detail = "Where we talk to, or as whom, has changed: send the client_secret with it."
        raise Problem(Code.SECRET_REQUIRED, status=422, detail=detail)
    return after, secret


def check(model: type[Body], stored: Mapping[str, Any], wish: Mapping[str, Any], place: str) -> Body:
    """A body with what was stored and what is sent now; null takes a field back. Problem REQUEST_INVALID."""
    merged = {name: value for name, value in {**stored, **wish}.items() if value is not None}
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        raise refuse(
            (".".join([place, *map(str, one["loc"])]), one["msg"].removeprefix("Value error, ")) for one in found
        ) from None


def judge(addresses: Mapping[str, str | None], place: str, *, allow_private: bool) -> None:
    """Problem ENDPOINT_REFUSED for an address that no provider may have."""
    for name, address in addresses.items():
        query = name in {"discovery_url", "metadata_url"}
        if address and (objection := object_to(address, allow_private=allow_private, allow_query=query)):
            raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=f"{place}.{name} can't be used: {objection}.")


def refuse(complaints: Iterable[Complaint]) -> Problem:
    """REQUEST_INVALID, naming the fields."""
    errors = [{"field": f"body.{name}", "problem": problem} for name, problem in complaints]
    named = ", ".join(error["field"] for error in errors[:5])
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"Not accepted: {named}.", errors=errors)


def refuse_if(complaints: Collection[Complaint]) -> None:
    """Problem REQUEST_INVALID if there are any."""
    if complaints:
        raise refuse(complaints)
