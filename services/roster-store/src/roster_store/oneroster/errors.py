"""Errors as OneRoster's consumers know them: its status object, with Homeroom's code and next step beside it (F1)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from homeroom.codes import Code
from homeroom.ids import new_id
from homeroom.problems import Problem, as_problem
from homeroom.telemetry import explain_error, get_logger
from roster_store.oneroster.filters import FilterError
from roster_store.oneroster.versions import VERSIONS, Version

log = get_logger(__name__)

_BAD_FILTER = "invalid_filter_field"
_SERVER_ERRORS = 500


class Refusal(Problem):
    """A request that can't be answered; `minor` is OneRoster's word for why, where the status alone does not say."""

    def __init__(self, code: Code, *, status: int, detail: str, minor: str = "", **extra: Any) -> None:
        super().__init__(code, status=status, detail=detail, **extra)
        self.minor = minor


def refuse_filter(error: FilterError) -> Refusal:
    """A filter that can't be honoured is refused, for an unfiltered answer would be taken for a filtered one."""
    return Refusal(
        Code.FILTER_INVALID,
        status=400,
        detail=f"The filter can't be used. {error}",
        minor=_BAD_FILTER,
        position=error.position,
    )


def refuse_parameter(name: str, problem: str, *, status: int = 422, minor: str = "") -> Refusal:
    """A parameter that can't be taken."""
    errors = [{"field": f"query.{name}", "problem": problem}]
    return Refusal(
        Code.REQUEST_INVALID, status=status, detail=f"Not accepted: {name}: {problem}", minor=minor, errors=errors
    )


def describe_status(major: str, severity: str, minor: str, description: str, reference: str) -> dict[str, Any]:
    """OneRoster's status object."""
    field = {"imsx_codeMinorFieldName": "TargetEndSystem", "imsx_codeMinorFieldValue": minor}
    return {
        "imsx_codeMajor": major,
        "imsx_severity": severity,
        "imsx_messageRefIdentifier": reference,
        "imsx_description": description,
        "imsx_CodeMinor": {"imsx_codeMinorField": [field]},
    }


def write_failure(problem: Problem, version: Version, request_id: str | None) -> Response:
    """The answer: the standard's fields, then Homeroom's as in every other error."""
    minor = getattr(problem, "minor", "") or version.minors.get(problem.status, version.minors[_SERVER_ERRORS])
    reference = request_id or str(new_id())
    body = describe_status("failure", "error", minor, problem.detail, reference)
    body |= {"code": str(problem.code), "next_step": problem.code.entry.next_step, **problem.extra}
    body |= {"request_id": reference}
    return Response(msgspec.json.encode(body), problem.status, problem.headers, "application/json")


class OneRosterRoute(APIRoute):
    """A route whose errors are OneRoster's, those of its token and its parameters too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's handler, with errors answered in the words of the version the path is of."""
        handle = super().get_route_handler()
        version = next((one for one in VERSIONS if self.path.startswith(one.base)), VERSIONS[0])

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Exception as error:  # the standard has a body for whatever goes wrong
                problem = as_problem(error)
                if problem.code is Code.INTERNAL:
                    log.exception("a OneRoster request failed")
                elif problem.status >= _SERVER_ERRORS:
                    log.warning("a OneRoster request could not be answered", error=explain_error(error))
                return write_failure(problem, version, request.scope.get("state", {}).get("request_id"))

        return answer


_TEXT = {"type": "string"}
FAILURE: dict[str, Any] = {
    "type": "object",
    "required": ["imsx_codeMajor", "imsx_severity", "imsx_description", "imsx_CodeMinor", "code", "next_step"],
    "properties": {
        "imsx_codeMajor": {"type": "string", "enum": ["failure"]},
        "imsx_severity": {"type": "string", "enum": ["error"]},
        "imsx_messageRefIdentifier": _TEXT,
        "imsx_description": {**_TEXT, "description": "what happened here"},
        "imsx_CodeMinor": {
            "type": "object",
            "required": ["imsx_codeMinorField"],
            "properties": {
                "imsx_codeMinorField": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["imsx_codeMinorFieldName", "imsx_codeMinorFieldValue"],
                        "properties": {"imsx_codeMinorFieldName": _TEXT, "imsx_codeMinorFieldValue": _TEXT},
                    },
                }
            },
        },
        "code": {**_TEXT, "description": "Homeroom's stable code"},
        "next_step": {**_TEXT, "description": "what to do about it"},
        "position": {"type": "integer", "description": "with FILTER_INVALID: the character at fault, counted from 1"},
        "request_id": {**_TEXT, "description": "how to find this request in our logs"},
        "errors": {
            "type": "array",
            "description": "with REQUEST_INVALID: each parameter that is wrong",
            "items": {"type": "object", "properties": {"field": _TEXT, "problem": _TEXT}},
        },
    },
    "additionalProperties": True,
}
"""The body of every error, for OpenAPI."""
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "What went wrong, in OneRoster's words and Homeroom's",
        "content": {
            "application/json": {
                "schema": FAILURE,
                "example": {
                    **describe_status("failure", "error", _BAD_FILTER, "The filter can't be used. At …", "01J…"),
                    "code": str(Code.FILTER_INVALID),
                    "next_step": Code.FILTER_INVALID.entry.next_step,
                    "position": 6,
                },
            }
        },
    }
}
