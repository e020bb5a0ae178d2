"""One origin in front of the services: requests go by path to the service that owns it (architecture §2, "HTTP").

What is not listed is not reachable from outside; `/v1/fingerprints` is between gateway and store, `/v1/people` between
sso and store.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http.cookiejar import DefaultCookiePolicy

import httpx2
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from homeroom.codes import Code
from homeroom.problems import Problem

UPLOADS = re.compile(r"/v1/integrations/[^/]+/uploads")
"""Exactly these paths are the gateway's: what is uploaded goes to no other service."""
ROUTES: Mapping[str, str] = {
    "/v1/organizations": "sync-scheduler",
    "/v1/integrations": "sync-scheduler",
    "/v1/runs": "sync-scheduler",
    "/v1/inquiries": "sync-scheduler",
    "/v1/products": "sync-scheduler",
    "/v1/licenses": "sync-scheduler",
    "/v1/alert-targets": "sync-scheduler",
    "/v1/alerts": "sync-scheduler",
    "/v1/credential-links": "sync-scheduler",
    "/connect": "sync-scheduler",
    "/v1/classes": "sync-scheduler",
    "/v1/audit": "sync-scheduler",
    "/v1/providers": "provider-gateway",
    "/v1/received": "provider-gateway",
    "/v1/changes": "roster-store",
    "/v1/subscriptions": "roster-store",
    "/v1/people-links": "roster-store",
    "/v1/accounts": "roster-store",
    "/v1/matching": "roster-store",
    "/v1/roster": "roster-store",
    "/v1/plans": "roster-store",
    "/v1/exports": "roster-store",
    "/v1/canvas": "roster-store",
    "/v1/privacy": "roster-store",
    "/ims/oneroster": "roster-store",
    "/v1/clients": "sso",
    "/v1/account-links": "sso",
    "/v1/connections": "sso",
    "/v1/launches": "sso",
    "/v1/portal-applications": "sso",
    "/v1/relying-parties": "sso",
    "/v1/sign-in": "sso",
    "/v1/staff": "sso",
    "/sso": "sso",
    "/oauth2": "sso",
    "/.well-known": "sso",
}
"""Path prefix → service; whole segments."""

REQUEST_SECONDS = 60.0
"""The longest silence of a service or a caller; whatever moves takes as long as it takes."""
SEALING_SECONDS = 600.0
"""How long an upload that has arrived may take to be stored."""
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host"})


def find_service(path: str) -> str | None:
    """The service that owns a path; what climbs through a path belongs to nobody."""
    if not {".", ".."}.isdisjoint(path.split("/")):
        return None
    if UPLOADS.fullmatch(path):
        return "provider-gateway"
    return next((name for prefix, name in ROUTES.items() if path == prefix or path.startswith(prefix + "/")), None)


def make_origin(services: Mapping[str, str]) -> Starlette:
    """An app that passes requests on to the services at these base URLs."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = httpx2.Limits(max_connections=100)
        async with httpx2.AsyncClient(timeout=REQUEST_SECONDS, limits=limits, trust_env=False) as client:
            client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=()))  # they are the browsers', not ours
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        name = find_service(request.url.path)
        if name is None:
            return Problem(Code.NOT_FOUND, status=404, detail="No service answers this path.").response()
        client: httpx2.AsyncClient = request.app.state.client
        url = httpx2.URL(services[name]).copy_with(raw_path=_raw_path(request))
        # Not the client's `build_request`, which adds headers of its own that the caller never sent.
        outgoing = httpx2.Request(
            request.method,
            url,
            headers=_headers(request),
            content=request.stream() if _has_body(request) else None,
            extensions={"timeout": _patience(request).as_dict()},
        )
        try:
            answer = await client.send(outgoing, stream=True)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it
        except httpx2.TransportError:
            return Problem(
                Code.UNAVAILABLE,
                status=503,
                detail=f"{name} does not answer; it may be starting.",
                headers={"Retry-After": "5"},
            ).response()
        response = StreamingResponse(answer.aiter_raw(), status_code=answer.status_code, background=None)
        response.raw_headers = [
            (key, value) for key, value in answer.headers.raw if key.decode().lower() not in _HOP_BY_HOP
        ]
        if answer.is_error and UPLOADS.fullmatch(request.url.path):
            response.raw_headers.append((b"connection", b"close"))  # rather than take in a body nobody wants
        return _Closing(response, answer)

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
    return Starlette(routes=[Route("/{path:path}", forward, methods=methods)], lifespan=lifespan)


class _Closing(Response):
    """A streamed answer whose upstream is closed however the client leaves."""

    def __init__(self, response: StreamingResponse, upstream: httpx2.Response) -> None:
        self._response = response
        self._upstream = upstream

    async def __call__(self, scope: object, receive: object, send: object) -> None:
        try:
            await self._response(scope, receive, send)  # type: ignore[arg-type]  # ASGI's own types, passed through
        finally:
            await self._upstream.aclose()


def _raw_path(request: Request) -> bytes:
    path: bytes = request.scope.get("raw_path") or request.url.path.encode()
    query: bytes = request.scope.get("query_string", b"")
    return path.partition(b"?")[0] + (b"?" + query if query else b"")


def _headers(request: Request) -> list[tuple[bytes, bytes]]:
    kept = [(key, value) for key, value in request.headers.raw if key.decode().lower() not in _HOP_BY_HOP]
    return [*kept, (b"host", request.headers.get("host", "").encode())]


def _patience(request: Request) -> httpx2.Timeout:
    storing = request.method == "POST" and UPLOADS.fullmatch(request.url.path)
    return httpx2.Timeout(REQUEST_SECONDS, read=SEALING_SECONDS if storing else REQUEST_SECONDS)


def _has_body(request: Request) -> bool:
    return "content-length" in request.headers or "transfer-encoding" in request.headers
