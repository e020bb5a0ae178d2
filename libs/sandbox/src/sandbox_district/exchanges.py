"""One request and its answer at a face that is not OneRoster's: faults first, and errors in the face's own words."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from sandbox_district.faults import Fault
from sandbox_district.replies import Reply

_REASONS: Final = {int(status): status.phrase for status in HTTPStatus}
Complain = Callable[[int, str], Reply]
"""An error of a status, with a text for people, as the face has it."""


async def answer_with(
    faults: list[Fault], work: Callable[[], Reply], complain: Complain, headers: Mapping[str, str] | None = None
) -> Response:
    """Do a request's work, or what the faults that strike it want instead.

    Args:
        faults: the faults.
        work: makes the answer.
        complain: what errors look like at this face: faults speak OneRoster, a face does not.
        headers: what every answer carries, also one that a fault gives.
    """
    if seconds := sum(fault.delay() for fault in faults):
        await asyncio.sleep(seconds)
    refusal = next((reply for fault in faults if (reply := fault.answer())), None)
    reply = work() if refusal is None else _translate(refusal, complain)
    reply = _add(reply, headers or {})
    for fault in faults:
        reply = fault.send(reply)
    return reply.response()


def split_path(request: Request, base: str) -> list[str]:
    """The parts of a path below a base as they were sent, with whatever was escaped still escaped."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    return raw.decode("ascii", "replace").partition("?")[0].removeprefix(base).strip("/").split("/")


def read_bearer(request: Request) -> str:
    """The bearer token of a request; "" without one."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _translate(reply: Reply, complain: Complain) -> Reply:
    if reply.headers.get("content-type", "").startswith("text/html"):
        return reply
    return _add(complain(reply.status, _REASONS.get(reply.status, "Error")), reply.headers)


def _add(reply: Reply, headers: Mapping[str, str]) -> Reply:
    return Reply(reply.body, reply.status, {**headers, **reply.headers}, reply.pace, dropped=reply.dropped)
