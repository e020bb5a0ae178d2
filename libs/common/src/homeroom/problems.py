"""Errors as callers get them: problem details (RFC 9457) with a stable code and what to do next, for every error."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import asyncpg
import msgspec
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from homeroom.bus import BusUnavailable
from homeroom.codes import Code
from homeroom.db import DatabaseBusy
from homeroom.telemetry import explain_error, get_logger

MEDIA_TYPE = "application/problem+json"

AWAY = (
    BusUnavailable,
    ConnectionError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
)
"""What says that something a service needs is away: the caller is asked to come back."""

_STATUS_CODES = {
    400: Code.REQUEST_INVALID,
    401: Code.TOKEN_INVALID,
    403: Code.SCOPE_MISSING,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.REQUEST_TOO_LARGE,
    422: Code.REQUEST_INVALID,
    503: Code.UNAVAILABLE,
}

log = get_logger(__name__)


class Problem(Exception):  # noqa: N818 - RFC 9457's word for what a caller is answered with
    """Raised by a handler to answer with an error. `detail` says what happened here and holds no secret or person."""

    def __init__(
        self, code: Code, *, status: int, detail: str, headers: dict[str, str] | None = None, **extra: Any
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.status = status
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def body(self) -> dict[str, Any]:
        """The problem document, without what only the request knows."""
        entry = self.code.entry
        return {
            "type": f"urn:homeroom:problem:{self.code}",
            "title": entry.title,
            "status": self.status,
            "detail": self.detail,
            "code": str(self.code),
            "next_step": entry.next_step,
            **self.extra,
        }

    def response(self, request_id: str | None = None) -> Response:
        """The answer to send."""
        body = self.body() | ({"request_id": request_id} if request_id else {})
        return Response(msgspec.json.encode(body), self.status, self.headers, MEDIA_TYPE)


SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["type", "title", "status", "detail", "code", "next_step"],
    "properties": {
        "type": {"type": "string", "description": "names the kind of problem; as stable as `code`"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what happened here"},
        "code": {"type": "string", "enum": [str(code) for code in Code]},
        "next_step": {"type": "string", "description": "what to do about it"},
        "request_id": {"type": "string", "description": "how to find this request in our logs"},
        "errors": {
            "type": "array",
            "description": "with REQUEST_INVALID: each field that is wrong",
            "items": {
                "type": "object",
                "required": ["field", "problem"],
                "properties": {"field": {"type": "string"}, "problem": {"type": "string"}},
            },
        },
    },
    "additionalProperties": True,
}
"""The problem document for OpenAPI."""

RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {"description": "What went wrong, and what to do next", "content": {MEDIA_TYPE: {"schema": SCHEMA}}}
}


def as_problem(error: Exception) -> Problem:
    """What the caller is told about an error; what was not foreseen is told as INTERNAL, and nothing of it."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            return _list_fields(error)
        case HTTPException():
            return _translate(error)
        case DatabaseBusy():
            return Problem(Code.BUSY, status=503, detail=f"{error}.", headers={"Retry-After": "2"})
    if isinstance(error, AWAY):
        return Problem(
            Code.UNAVAILABLE, status=503, detail="A part of Homeroom did not answer.", headers={"Retry-After": "5"}
        )
    return Problem(Code.INTERNAL, status=500, detail="The request could not be handled.")


def _list_fields(error: RequestValidationError) -> Problem:
    """Each wrong field by its name and what is wrong with it, never its value."""
    errors = [
        {"field": ".".join(str(part) for part in found["loc"]), "problem": found["msg"]} for found in error.errors()
    ]
    fields = ", ".join(sorted({found["field"] for found in errors})[:5])
    return Problem(Code.REQUEST_INVALID, status=422, detail=f"Not accepted: {fields}.", errors=errors)


def _translate(error: HTTPException) -> Problem:
    """An error of the framework in our words."""
    code = _STATUS_CODES.get(error.status_code, Code.REQUEST_INVALID if error.status_code < 500 else Code.INTERNAL)  # noqa: PLR2004 - where HTTP's server errors begin
    phrase = HTTPStatus(error.status_code).phrase
    detail = phrase if error.detail == phrase else str(error.detail)
    return Problem(code, status=error.status_code, detail=f"{detail}.", headers=dict(error.headers or {}))


async def _answer(request: Request, error: Exception) -> Response:
    problem = as_problem(error)
    if problem.code is Code.UNAVAILABLE:
        log.warning("something needed is away", error=explain_error(error))
    return problem.response(request.scope.get("state", {}).get("request_id"))


def answer_problems(app: FastAPI) -> None:
    """Let an app answer every error with problem details; what is unforeseen is caught by the frame around it."""
    for kind in (Problem, RequestValidationError, HTTPException, DatabaseBusy, *AWAY):
        app.add_exception_handler(kind, _answer)
