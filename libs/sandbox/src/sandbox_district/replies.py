"""What goes over the wire: replies as data, so that a fault can still change them, and OneRoster's error bodies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer before it is sent. With a pace it drips out in (bytes, seconds); a dropped one breaks off half-way."""

    body: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    pace: tuple[int, float] | None = None
    dropped: bool = False

    def response(self) -> Response:
        """The answer as Starlette sends it."""
        headers = {"content-type": "application/json"} | self.headers
        if self.dropped:
            return _DroppedResponse(self.body, self.status, headers)
        if self.pace:
            headers["content-length"] = str(len(self.body))
            return StreamingResponse(_drip(self.body, *self.pace), self.status, headers)
        return Response(self.body, self.status, headers)


def reply_json(content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    """A reply with a JSON body."""
    return Reply(msgspec.json.encode(content), status, headers or {})


def reply_error(status: int, minor: str, description: str, headers: dict[str, str] | None = None) -> Reply:
    """A reply with OneRoster's imsx_StatusInfo; minor is one of its code minor values."""
    return reply_json(describe_status("failure", "error", minor, description), status, headers)


def describe_status(major: str, severity: str, minor: str, description: str) -> dict[str, Any]:
    """OneRoster's imsx_StatusInfo."""
    return {
        "imsx_codeMajor": major,
        "imsx_severity": severity,
        "imsx_messageRefIdentifier": "00000000-0000-0000-0000-000000000000",
        "imsx_description": description,
        "imsx_CodeMinor": {
            "imsx_codeMinorField": [
                {"imsx_codeMinorFieldName": "TargetEndSystem", "imsx_codeMinorFieldValue": minor},
            ]
        },
    }


async def _drip(body: bytes, size: int, seconds: float) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        await asyncio.sleep(seconds)
        yield body[start : start + size]


class _DroppedResponse(Response):
    """Promises the whole body, sends half of it and leaves; the server then closes the connection."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        half = self.body[: len(self.body) // 2]
        await send({"type": "http.response.body", "body": half, "more_body": True})
