"""Routes that people's browsers come to: whatever goes wrong there ends in a page with a support id, never in JSON."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from homeroom.codes import Code
from homeroom.db import DatabaseBusy
from homeroom.problems import AWAY, Problem
from homeroom.telemetry import get_logger
from sso.launch.pages import show_refusal
from sso.launch.refusals import Refused
from sso.launch.traces import Launches, Trace

log = get_logger(__name__)


class BrowserRoute(APIRoute):
    """A route for browsers: `APIRouter(route_class=BrowserRoute)`. The launch's trace is `request.state.trace`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler with a page for every error."""
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except Refused as refused:
                return await _refuse(request, refused)
            except (RequestValidationError, HTTPException, Problem) as error:
                status = getattr(error, "status_code", None) or getattr(error, "status", None) or 400
                return await _refuse(request, Refused(Code.SIGNIN_REQUEST_INVALID, type(error).__name__, status=status))
            except (*AWAY, DatabaseBusy) as error:
                log.warning("a launch met something that is away", error=type(error).__name__)
                return await _refuse(request, Refused(Code.SIGNIN_FAILED, type(error).__name__, status=503))
            except Exception as error:
                log.exception("a launch failed")
                return await _refuse(request, Refused(Code.SIGNIN_FAILED, type(error).__name__, status=500))

        return answer


async def _refuse(request: Request, refused: Refused) -> Response:
    launches: Launches = request.app.state.launches
    trace: Trace = getattr(request.state, "trace", None) or launches.begin("launch")
    trace.note("refused", code=refused.code, why=refused.why)
    try:
        await launches.write(trace, "refused", refused.code)
    except Exception as error:  # noqa: BLE001 - the page is shown whatever becomes of the trace
        log.warning("a trace could not be written", support_id=trace.support_id, error=type(error).__name__)
    return show_refusal(refused.code, trace.support_id, refused.status, retry=getattr(request.state, "retry", None))
