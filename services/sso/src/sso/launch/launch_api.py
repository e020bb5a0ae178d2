"""Where browsers come in: tiles, the way to find one's school, and who is signed in here (E1, E2, E3)."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from homeroom.codes import Code
from homeroom.db import Database
from sso.launch.browser_routes import BrowserRoute
from sso.launch.flows import Intent
from sso.launch.launching import Arrived, Launching
from sso.launch.pages import show
from sso.launch.refusals import Refused
from sso.statements import SQL

router = APIRouter(prefix="/sso", route_class=BrowserRoute, include_in_schema=False)

MOST_DOORS: Final = 20
SHORTEST_SEARCH: Final = 2
HOW: Final = {
    "classlink": "with ClassLink",
    "clever": "with Clever",
    "oidc": "with the school's account",
    "classlink-saml": "with ClassLink",
    "saml": "with the school's account",
}

Search = Annotated[str, Query(max_length=100, pattern=r"^[^\x00]*$")]
"""Part of a school's name, as somebody types it."""
Destination = Annotated[str | None, Query(max_length=100, pattern=r"^[A-Za-z0-9._-]+$")]


@router.get("/launch/{upstream_id}")
async def launch(
    request: Request, upstream_id: UUID, product: UUID | None = None, destination: Destination = None
) -> Response:
    """What a portal's tile points to: sign in there, then open the product, with no further question (E2)."""
    launching: Launching = request.app.state.launching
    upstream = await launching.upstreams.find(upstream_id)
    if upstream is None:
        raise Refused(Code.SIGNIN_TENANT_UNKNOWN, "no such upstream", status=404)
    return await launching.send(request, upstream, Intent("launch", product or upstream.product_id, destination))


async def find_school(
    request: Request,
    *,
    product_id: UUID | None,
    organization_id: UUID | None,
    resume_url: str,
    search: str,
    local_url: str | None = None,
) -> Response:
    """The page on which somebody says which school they are at; `resume_url` gets `connection` when they did.

    `local_url` is where staff with a password of ours go instead.
    """
    database: Database = request.app.state.database
    doors = []
    if organization_id is not None or len(search.strip()) >= SHORTEST_SEARCH:
        rows = await database.fetch(SQL["search_doors"], product_id, organization_id, search.strip(), MOST_DOORS + 1)
        doors = [
            {
                "url": f"{resume_url}{'&' if '?' in resume_url else '?'}{urlencode({'connection': row['id']})}",
                "organization": row["organization_name"],
                "how": f"{HOW[row['kind']]} ({row['name']})",
            }
            for row in rows
        ]
    product = None if product_id is None else await database.fetchrow(SQL["find_product"], product_id)
    kept = parse_qsl(resume_url.partition("?")[2], keep_blank_values=True)
    return show(
        "choose",
        product=None if product is None else product["name"],
        doors=doors[:MOST_DOORS],
        more=len(doors) > MOST_DOORS,
        search=search,
        kept=kept,
        local_url=local_url,
    )


@router.get("/session")
async def show_session(request: Request) -> Response:
    """Who is signed in in this browser, and what they may open."""
    launching: Launching = request.app.state.launching
    session = await launching.sessions.find(request)
    if session is None:
        return show("signed_out", back=None)
    if session.staff_id is not None:
        return RedirectResponse("/sso/staff", 303)
    identified = await launching.admit(session, None)
    return await _show_tiles(
        request, identified.door.organization_id, identified.name, identified.door.organization_name
    )


@router.get("/open/{product_id}")
async def open_product(request: Request, product_id: UUID, destination: Destination = None) -> Response:
    """Open a product for whoever is signed in in this browser."""
    launching: Launching = request.app.state.launching
    session = await launching.sessions.find(request)
    if session is None:
        raise Refused(Code.SIGNIN_SESSION_OVER, "no session", status=401)
    trace = launching.launches.begin("launch")
    request.state.trace = trace
    trace.facts |= {"product_id": product_id, "connection_id": session.connection_id}
    trace.facts |= {"organization_id": session.organization_id}
    identified = await launching.admit(session, product_id)
    response: Response = await request.app.state.handover.open(
        request, session, identified, product_id, destination, trace
    )
    return response


@router.post("/sign-out")
async def sign_out(request: Request) -> Response:
    """End the session of this browser. The portal's own session is not ours to end."""
    launching: Launching = request.app.state.launching
    session = await launching.sessions.find(request)
    if session is not None:
        await launching.sessions.end(session.id)
    response = RedirectResponse("/sso/session", 303)
    launching.sessions.unmark(response)
    return response


async def continue_launch(request: Request, arrived: Arrived) -> Response:
    """The continuation of `launch`: open the product, or show what can be opened."""
    identified, session = arrived.identified, arrived.session
    assert identified is not None and session is not None  # noqa: S101, PT018 - launches have both
    if arrived.intent.product_id is None:
        await request.app.state.launches.write(arrived.trace, "completed")
        door = identified.door
        return await _show_tiles(request, door.organization_id, identified.name, door.organization_name)
    response: Response = await request.app.state.handover.open(
        request, session, identified, arrived.intent.product_id, arrived.intent.destination, arrived.trace
    )
    return response


async def _show_tiles(request: Request, organization_id: UUID, name: str, organization: str) -> Response:
    database: Database = request.app.state.database
    rows = await database.fetch(SQL["list_licensed_products"], organization_id)
    tiles: list[dict[str, Any]] = [{"url": f"/sso/open/{row['id']}", "name": row["name"]} for row in rows]
    return show("tiles", name=name, organization=organization, tiles=tiles)
