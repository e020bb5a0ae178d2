"""What somebody sees who connects their account: which school, signing in there, "is that you?", and back (D4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.clock import Clock
from homeroom.codes import Code
from homeroom.db import Database
from homeroom.people import LinkOrder, LinkOutcome
from sso.handover.addresses import add_query
from sso.handover.link_requests import LinkRequest, LinkRequests, Outcome, is_fresh
from sso.handover.opening import HEADERS
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Intent, make_token
from sso.launch.identification import Identified
from sso.launch.launch_api import Search, find_school
from sso.launch.launching import Arrived, Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.launch.traces import Trace
from sso.statements import SQL

router = APIRouter(prefix="/sso/link", route_class=BrowserRoute, include_in_schema=False)

PASSING: Final = frozenset({Code.SIGNIN_STORE_AWAY, Code.SIGNIN_UPSTREAM_AWAY, Code.SIGNIN_FAILED})
"""Refusals that are no answer yet: the same URL can be tried again while it is good."""
MOST_FIELDS: Final = 10
UNROSTERED: Final = frozenset({Code.SIGNIN_NOT_ROSTERED, Code.SIGNIN_REMOVED})


@dataclass(frozen=True, slots=True)
class Linking:
    """Leads people through connecting an account; `app.state.linking`."""

    issuer: str
    clock: Clock
    requests: LinkRequests
    launching: Launching

    async def send(self, request: Request, found: LinkRequest, connection_id: UUID) -> Response:
        """Send somebody to sign in anew. Raises `Refused`."""
        launching = self.launching
        door = await launching.identification.find_connection(connection_id, found.product_id)
        upstream = None if door is None else await launching.upstreams.find(door.upstream_id)
        if door is None or upstream is None or found.organization_id not in (None, door.organization_id):
            raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no such connection for this request", status=404)
        if not (door.enabled and upstream.enabled):
            raise Refused(Code.SIGNIN_CONNECTION_OFF, "the connection is disabled")
        if not door.licensed:
            raise Refused(Code.SIGNIN_UNLICENSED, "no license of the product is in force for the organization")
        intent = Intent("link", found.product_id, None, door.id, resume=str(found.id), fresh=True)
        return await launching.send(request, upstream, intent)

    async def arrive(self, request: Request, arrived: Arrived) -> Response:
        """Somebody has signed in for a request: ask them whether it is right. Raises `Refused`.

        Only the browser that opened the request gets here, and for each request once. No session is begun or ended.
        """
        browser = self.launching.browsers.recognise(request)
        request_id = _read_id(arrived.intent.resume)
        if browser is None or request_id is None:
            raise _lost("nothing to go on with")
        found = await self.requests.find_open(request_id, browser)
        if found is None or found.product_id != arrived.intent.product_id:
            raise _lost("the request is over, or another browser's")
        try:
            identified = await self._identify(found, arrived)
        except Refused as refused:
            self._lead_back(request, found, await self._end_refused(found, refused))
            raise
        form = await self.requests.arrive(found.id, browser, identified, arrived.trace)
        if form is None:
            raise _lost("somebody signed in for the request before")
        arrived.trace.note("asked whether to connect the account", request=found.id)
        await self.launching.launches.write(arrived.trace)
        return await self._ask(request, found, identified, form)

    async def _identify(self, found: LinkRequest, arrived: Arrived) -> Identified:
        auth_time = arrived.arrival.auth_time
        if auth_time is not None and not is_fresh(auth_time, self.clock.now()):
            raise Refused(Code.SIGNIN_TOKEN_INVALID, "the portal's sign-in is not fresh")
        identified = await self.launching.identify(arrived.arrival, arrived.intent, arrived.trace)
        if found.organization_id not in (None, identified.door.organization_id):
            raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "somebody of another district came back")
        if identified.person is None:
            raise Refused(Code.SIGNIN_NOT_ROSTERED, "only rostered people connect accounts")
        return identified

    async def _end_refused(self, found: LinkRequest, refused: Refused) -> Outcome | None:
        if refused.code in PASSING:
            return None
        outcome: Outcome = "not_rostered" if refused.code in UNROSTERED else "refused"
        await self.requests.end(found.id, outcome)
        return outcome

    async def _ask(self, request: Request, found: LinkRequest, identified: Identified, form: str) -> Response:
        product = await request.app.state.database.fetchrow(SQL["find_product"], found.product_id)
        return show(
            "link_confirm",
            form_targets=(found.return_to,),
            product="" if product is None else product["name"],
            label=found.label,
            name=identified.name,
            organization=identified.door.organization_name,
            request_id=found.id,
            form=form,
        )

    async def decide(self, request: Request, request_id: UUID, form: str, *, agreed: bool) -> Response:
        """The person's word. Raises `Refused`."""
        browser = self.launching.browsers.recognise(request)
        found = None if browser is None else await self.requests.confirm(request_id, browser, form)
        if found is None or found.launch_id is None or found.support_id is None:
            raise _lost("nothing waits for this confirmation")
        trace = self._resume(request, found)
        if not agreed:
            await self.requests.end(found.id, "cancelled")
            await self.launching.launches.write(trace, "refused", Code.SIGNIN_DENIED)
            return self._return(found, "cancelled")
        await self._link(request, found)
        trace.note("the account is connected", request=found.id)
        await self.launching.launches.write(trace, "completed")
        return self._return(found, "linked")

    def _resume(self, request: Request, found: LinkRequest) -> Trace:
        assert found.launch_id is not None and found.support_id is not None  # noqa: S101, PT018 - whoever arrived has both
        trace = self.launching.launches.resume(found.launch_id, found.support_id, "link", found.kind or "")
        request.state.trace = trace
        return trace

    async def _link(self, request: Request, found: LinkRequest) -> None:
        """Have the store connect the account. Done twice it is the same, so what was cut short can be repeated."""
        order = LinkOrder(
            action="link",
            product_id=str(found.product_id),
            organization_id=str(found.at_organization),
            integration_id=str(found.integration_id),
            sourced_id=found.sourced_id or "",
            external_id=found.external_id,
        )
        try:
            answer = await self.launching.people.link(order)
        except Refused:
            await self.requests.release(found.id)
            raise
        if answer.outcome == "linked":
            await self.requests.end_linked(found)
            if found.integration_id is not None and found.sourced_id is not None:
                await self.launching.people.forget(found.integration_id, found.sourced_id)
            return
        outcome, refused = _read_outcome(answer)
        await self.requests.end(found.id, outcome)
        self._lead_back(request, found, outcome)
        raise refused

    def _lead_back(self, request: Request, found: LinkRequest, outcome: Outcome | None) -> None:
        """Let the page of a refusal lead back to the product, which can begin again."""
        if outcome is not None:
            request.state.retry = self._address(found, outcome)

    def _return(self, found: LinkRequest, outcome: Outcome) -> Response:
        return RedirectResponse(self._address(found, outcome), 303, HEADERS)

    def _address(self, found: LinkRequest, outcome: Outcome) -> str:
        return add_query(found.return_to, link_request_id=str(found.id), outcome=outcome, iss=self.issuer)


def _read_outcome(answer: LinkOutcome) -> tuple[Outcome, Refused]:
    """What the product reads, and what the person is told, where the store connected nothing."""
    match answer.outcome:
        case "account_linked" | "person_linked" as outcome:
            return outcome, Refused(Code.SIGNIN_LINKED_ELSEWHERE, outcome, status=409)
    return "not_rostered", Refused(Code.SIGNIN_NOT_ROSTERED, "the store knows nobody of that name")


def _lost(why: str) -> Refused:
    return Refused(Code.SIGNIN_FLOW_LOST, why)


def _read_id(text: str | None) -> UUID | None:
    try:
        return None if text is None else UUID(text)
    except ValueError:
        return None


async def continue_link(request: Request, arrived: Arrived) -> Response:
    """The continuation of `link`."""
    linking: Linking = request.app.state.linking
    return await linking.arrive(request, arrived)


@router.get("/{token}")
async def open_link(
    request: Request,
    token: str,
    connection: UUID | None = None,
    search: Search = "",
    marked: bool = False,
) -> Response:
    """Where a product sends somebody who wants to connect their account: choose a school if need be, and sign in."""
    linking: Linking = request.app.state.linking
    browser = linking.launching.browsers.recognise(request)
    if browser is None:
        if marked:
            raise _lost("the browser keeps no cookies")
        response = RedirectResponse(f"{request.url.path}?marked=true", 303, HEADERS)
        linking.launching.browsers.mark(response, make_token())
        return response
    found = await linking.requests.open(token, browser)
    if found is None:
        raise _lost("the request is unknown, over, or another browser's")
    chosen = found.connection_id or connection or await _find_only_door(request, found)
    if chosen is not None:
        return await linking.send(request, found, chosen)
    return await find_school(
        request,
        product_id=found.product_id,
        organization_id=found.organization_id,
        resume_url=request.url.path,
        search=search,
    )


async def _find_only_door(request: Request, found: LinkRequest) -> UUID | None:
    """The one connection of the organization that was named, if it has one: then there is nothing to choose."""
    if found.organization_id is None:
        return None
    database: Database = request.app.state.database
    rows = await database.fetch(SQL["search_doors"], found.product_id, found.organization_id, "", 2)
    return rows[0]["id"] if len(rows) == 1 else None


@router.post("/confirmations/{request_id}")
async def confirm_link(
    request: Request,
    request_id: UUID,
) -> Response:
    """Take the person's word; the form is worth something in the browser it was shown in only, and once."""
    linking: Linking = request.app.state.linking
    text = (await request.body()).decode("ascii", "replace")
    try:
        fields = dict(parse_qsl(text, max_num_fields=MOST_FIELDS))
    except ValueError:
        raise Refused(Code.SIGNIN_REQUEST_INVALID, "too many fields", status=400) from None
    return await linking.decide(request, request_id, fields.get("form", ""), agreed=fields.get("agreed") == "true")
