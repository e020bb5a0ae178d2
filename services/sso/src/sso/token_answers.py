"""Answers of the endpoints that programs call for tokens: errors in the standard's words, with ours beside them."""

from __future__ import annotations

from typing import Final

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from sso.tokens import STANDARD_ERRORS, TokenDenied

CROSS_ORIGIN: Final = {"Access-Control-Allow-Origin": "*"}
"""No cookie counts at these endpoints, so scripts of public clients may call them from any page."""
NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache", **CROSS_ORIGIN}


class TokenError(BaseModel):
    """Why there is no token (RFC 6749 §5.2), with our code and what to do next."""

    error: str
    error_description: str
    code: str
    next_step: str


def deny(denied: TokenDenied) -> JSONResponse:
    """The answer to a request that is denied."""
    status, error = STANDARD_ERRORS[denied.code]
    body = TokenError(
        error=error,
        error_description=denied.detail,
        code=denied.code,
        next_step=denied.code.entry.next_step,
    )
    more = {
        401: {"WWW-Authenticate": 'Basic realm="homeroom"'},
        429: {"Retry-After": "60"},
        503: {"Retry-After": "5"},
    }
    return JSONResponse(body.model_dump(), status, NO_STORE | more.get(status, {}))
