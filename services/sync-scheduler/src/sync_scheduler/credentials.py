"""What an admin enters to connect a district, checked by its kind's model and split: what may be shown, what is sealed.

What is sealed can't be opened here, so an edit has two ways only: the sealed secrets stay as they are, all of them, or
all of them are entered again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
from pydantic import ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError

from homeroom.codes import Code
from homeroom.connections import CONNECTIONS, ConnectionModel
from homeroom.endpoints import object_to
from homeroom.problems import Problem
from homeroom.secrets import seal

_STAND_IN = '{"client_email": "-", "private_key": "-"}'
"""Passes for any secret, where those that are sealed stay and the rest is to be checked."""
_FIRST_WORD = re.compile(r"\w+")

TOGETHER = "secrets can't be read back, so all that this connection needs are sent together"


@dataclass(frozen=True, slots=True)
class Entered:
    """A connection that passed its checks."""

    shown: dict[str, Any]
    secrets: dict[str, str] | None = field(repr=False)
    """All of them, to be sealed; None where the sealed ones stay."""

    def seal(self, public_key: str, integration: object) -> str:
        """The secrets as only a gateway's worker can open them, and only for this integration."""
        return seal(public_key, str(integration), msgspec.json.encode(self.secrets or {}))


def enter(connection: ConnectionModel) -> Entered:
    """A connection as it was created."""
    return Entered(connection.shown(), connection.secrets())


def asks_for_any(provider: str) -> bool:
    """Whether a connection of this kind has anything to enter."""
    return bool(CONNECTIONS[provider].model_fields)


def check_entered(integration: asyncpg.Record) -> None:
    """Problem CREDENTIALS_MISSING while a district has still to enter its credentials (C12)."""
    if not integration["sealed_secret"]:
        detail = f"The credentials of the integration {integration['id']} have not been entered yet."
        raise Problem(Code.CREDENTIALS_MISSING, status=409, detail=detail)


def check_kind(provider: str, entered: object) -> ConnectionModel:
    """A connection of this kind of provider. Raises ValidationError naming the fields that are wrong."""
    model = CONNECTIONS[provider]
    if entered is None and not model.model_fields:
        entered = {}
    try:
        return model.model_validate(entered)
    except ValidationError as error:
        found = [_locate(model, one) for one in error.errors(include_url=False, include_input=False)]
        raise ValidationError.from_exception_data(model.__name__, found, hide_input=True) from None


def change(provider: str, before: Mapping[str, Any], held: Collection[str], wish: Mapping[str, Any]) -> Entered:
    """A connection with some fields entered anew; null takes a field away.

    Args:
        provider: the kind.
        before: what is shown of the connection.
        held: the names of the secrets that are sealed.
        wish: the fields that were sent.

    Problems REQUEST_INVALID naming the fields, SECRET_REQUIRED.
    """
    model = CONNECTIONS[provider]
    secret = frozenset(model.secret_fields())
    again = bool(secret & wish.keys())
    merged = {name: value for name, value in {**before, **wish}.items() if value is not None}
    if not again:
        merged |= _stand_in(model)
    try:
        connection = check_kind(provider, merged)
    except ValidationError as error:
        raise _refuse(error, missing=secret - wish.keys() if again else frozenset()) from None
    shown = connection.shown()
    bound = model.binds(_complete(provider, before), shown)
    if not again:
        if bound:
            names = " or ".join(model.secret_fields())
            detail = f"The connection changed; send its {names} with it, for {TOGETHER}."
            raise Problem(Code.SECRET_REQUIRED, status=422, detail=detail)
        return Entered(shown, None)
    lost = () if bound else set(held) - wish.keys()
    if lost:
        raise _refuse_fields([(name, f"send it as well, or null to give it up: {TOGETHER}") for name in sorted(lost)])
    return Entered(shown, connection.secrets())


def check_addresses(provider: str, shown: Mapping[str, Any], *, allow_private: bool) -> None:
    """Problem ENDPOINT_REFUSED for an address no provider may have."""
    for name in CONNECTIONS[provider].address_fields():
        address = shown.get(name)
        if address and (objection := object_to(address, allow_private=allow_private)):
            detail = f"connection.{name} can't be used: {objection}."
            raise Problem(Code.ENDPOINT_REFUSED, status=422, detail=detail)


def _stand_in(model: type[ConnectionModel]) -> dict[str, str]:
    return dict.fromkeys(model.secret_fields(), _STAND_IN)


def _complete(provider: str, shown: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is shown of a connection, with the defaults of fields that its kind got since it was entered."""
    try:
        return check_kind(
            provider, {**shown, **dict.fromkeys(CONNECTIONS[provider].secret_fields(), _STAND_IN)}
        ).shown()
    except ValidationError:  # it was entered under other rules
        return shown


def _locate(model: type[ConnectionModel], error: ErrorDetails) -> InitErrorDetails:
    """What is wrong, at the field it is about: a complaint about the whole begins with the name of one."""
    location = error["loc"]
    message = error["msg"].removeprefix("Value error, ")
    first = _FIRST_WORD.match(message)
    if not location and first and first[0] in model.model_fields:
        location = (first[0],)
    # Braces would be taken for places to fill in.
    kind = PydanticCustomError(error["type"], message.replace("{", "(").replace("}", ")"))
    return InitErrorDetails(type=kind, loc=location, input=None)


def _refuse(error: ValidationError, *, missing: Collection[str]) -> Problem:
    found = []
    for one in error.errors(include_url=False, include_input=False):
        name = ".".join(map(str, one["loc"]))
        found.append((name, f"{one['msg']} ({TOGETHER})" if name in missing else one["msg"]))
    return _refuse_fields(found)


def _refuse_fields(found: Collection[tuple[str, str]]) -> Problem:
    errors = [{"field": f"body.connection.{name}".rstrip("."), "problem": problem} for name, problem in found]
    named = ", ".join(error["field"] for error in errors[:5])
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"Not accepted: {named}.", errors=errors)
