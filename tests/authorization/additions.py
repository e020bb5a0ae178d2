"""What is added to a district when a call needs something that can be used once only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid4

from authorization.bodies import (
    describe_accounts,
    describe_canvas,
    describe_erasure,
    describe_integration,
    describe_link,
    describe_person,
    describe_subscription,
    describe_target,
)
from authorization.districts import SCHEDULER, SSO, STORE, District, Neighbourhood, issue_token
from authorization.rules import Kind
from homeroom.auth import SCOPES
from homeroom.codes import Code
from homeroom.messages import Applied, Bookmark, Claimed, CollectionReport, Held
from homeroom.roster import (
    CANONICAL_VERSION,
)

PLAN: Final = "ab12" * 16


async def add_integration(
    place: Neighbourhood, district: District, _: Kind = "platform", *, provider: str = "oneroster"
) -> dict[str, str]:
    """Another integration of the district."""
    body = describe_integration(district.ids) | {"provider": provider}
    if provider == "oneroster-csv":
        body["connection"] = {}
    made = await place.ask(SCHEDULER, "POST", "/v1/integrations", body)
    return district.hide(integration_id=made["id"])


async def add_run(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """An integration whose run waits for a worker."""
    ids = await add_integration(place, district)
    made = await place.ask(SCHEDULER, "POST", f"/v1/integrations/{ids['integration_id']}/runs", {})
    return ids | district.hide(run_id=made["run_id"])


async def add_applied_run(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """An integration whose run was applied."""
    ids = await add_run(place, district)
    said = {"run_id": ids["run_id"], "integration_id": ids["integration_id"], "at": datetime.now(UTC), "attempt": 1}
    reports = {"users": CollectionReport(served=3, added=3)}
    numbers = {"students": 1, "teachers": 1, "classes": 1}
    await place.hear(
        Claimed(worker="w", fetch_id="f", **said),
        Applied(fetch_id="f", apply=1, collections=reports, **numbers, **said),
    )
    return ids


async def add_settled_integration(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """An integration whose last sync left all that a refresh of a class builds on."""
    ids = await add_integration(place, district)
    bookmark = Bookmark(at=datetime.now(UTC), canonical=CANONICAL_VERSION, increments=True)
    await place.apps[SCHEDULER].state.database.fetch(
        "UPDATE integration SET bookmark = $2 WHERE id = $1", UUID(ids["integration_id"]), bookmark
    )
    return ids


async def add_refresh(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """The refresh of a class; for teachers one of their own."""
    if kind != "teacher":
        return {}  # the district has one that names nobody
    ids = await add_settled_integration(place, district)
    body = {"integration_id": ids["integration_id"], "teacher_sourced_id": district.ids["teacher_id"]}
    made = await place.ask(SCHEDULER, "POST", f"/v1/classes/{district.ids['class_id']}/refresh", body)
    return ids | district.hide(refresh_run_id=made["run_id"])


async def add_held_run(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """An integration of whose run something waits for a decision."""
    ids = await add_run(place, district)
    said = {"run_id": ids["run_id"], "integration_id": ids["integration_id"], "at": datetime.now(UTC), "attempt": 1}
    held = Held(
        fetch_id="f",
        code=Code.GUARD_DELETE_HOLD,
        detail="40 of 130 users would go.",
        collections={"users": CollectionReport(served=90, added=2, unchanged=88, held=40)},
        plan=PLAN,
        expires_at=datetime.now(UTC) + timedelta(days=7),
        everything=False,
        apply=3,
        **said,
    )
    await place.hear(Claimed(worker="w", fetch_id="f", **said), held)
    return ids


async def add_product(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Another product, licensed to the district."""
    made = await place.ask(SCHEDULER, "POST", "/v1/products", {"name": f"Writer {district.mark}"})
    body = {"product_id": made["id"], "organization_id": district.ids["organization_id"]}
    license_id = (await place.ask(SCHEDULER, "POST", "/v1/licenses", body))["id"]
    return district.hide(product_id=made["id"], license_id=license_id)


async def add_target(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Another webhook that is told of the district's alerts."""
    made = await place.ask(SCHEDULER, "POST", "/v1/alert-targets", describe_target(district.ids))
    return district.hide(target_id=made["id"])


async def add_link(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Another credential link."""
    path = f"/v1/integrations/{district.ids['integration_id']}/credential-links"
    made = await place.ask(SCHEDULER, "POST", path, {"note": f"note {district.mark}"})
    return district.hide(link_id=made["id"], link_token=made["url"].rpartition("/")[2])


async def add_client(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Another client of the district."""
    body = {"scopes": ["integrations.read"], "organization_id": district.ids["organization_id"]}
    made = await place.ask(SSO, "POST", "/v1/clients", body)
    return district.hide(client_id=made["id"])


async def add_subscription(place: Neighbourhood, district: District, kind: Kind = "organization") -> dict[str, str]:
    """Another subscription of the district, or of its product."""
    token = issue_token(place, "organization" if kind == "platform" else kind, SCOPES, district)
    made = await place.ask(STORE, "POST", "/v1/subscriptions", describe_subscription(district.ids), token=token)
    return district.hide(subscription_id=made["id"])


async def add_canvas_target(place: Neighbourhood, district: District, kind: Kind = "organization") -> dict[str, str]:
    """Another Canvas that is kept in step, with a push that waits."""
    token = issue_token(place, "organization" if kind == "platform" else kind, SCOPES, district)
    made = await place.ask(STORE, "POST", "/v1/canvas/targets", describe_canvas(district.ids), token=token)
    push = await place.ask(STORE, "POST", f"/v1/canvas/targets/{made['id']}/pushes", token=token)
    return district.hide(target=made["id"], push=push["id"])


async def add_record(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Somebody who was entered by hand."""
    query = {"integration": district.ids["integration_id"]}
    made = await place.ask(STORE, "POST", "/v1/roster/records/users", describe_person(district.ids), query=query)
    return district.hide(sourced_id=made["sourced_id"])


async def add_erasure(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """Somebody who was erased."""
    who = await add_record(place, district, kind)
    body = describe_erasure(district.ids | who)
    made = await place.ask(STORE, "POST", "/v1/privacy/erasures", body)
    return district.hide(erasure_id=made["id"])


async def add_account(place: Neighbourhood, district: District, _: Kind = "platform", **more: str) -> dict[str, str]:
    """Another account of the district's product."""
    body = describe_accounts({"external_id": f"account-{district.mark}-{uuid4().hex[:8]}"})
    body["accounts"][0] |= more
    token = issue_token(place, "product", SCOPES, district)
    query = {"organization": district.ids["organization_id"]}
    made = await place.ask(STORE, "PUT", "/v1/accounts", body, token=token, query=query)
    return district.hide(account_id=made["accounts"][0]["id"])


async def add_linked_account(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """Another account, tied to the district's teacher."""
    made = await add_account(place, district)
    token = issue_token(place, "product", SCOPES, district)
    query = {"organization": district.ids["organization_id"]}
    body = describe_link(district.ids | made)
    await place.ask(STORE, "PUT", "/v1/matching/links", body, token=token, query=query)
    return made
