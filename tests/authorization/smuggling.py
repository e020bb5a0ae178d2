"""Ids of one district in what another one says: in bodies and parameters of calls that are its own otherwise.

Each call is made twice by the outsider: with an id of the district, and with one that nobody has. Both must be refused
alike, for an answer that differs tells that the id exists. With the outsider's own id the same call succeeds, which
proves that nothing else about it is wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from authorization.bodies import describe_canvas, describe_integration, describe_subscription, describe_target
from authorization.checking import find_secrets
from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE, Neighbourhood, issue_token
from authorization.rules import Call, Ids, Kind
from homeroom.auth import SCOPES

REFUSED: Final = frozenset({403, 404, 409, 422})
OWN: Final = frozenset({200, 201, 202, 204})


@dataclass(frozen=True, slots=True, kw_only=True)
class Smuggled:
    """A call of an outsider in which one id, or more, may be another's."""

    service: str
    method: str
    path: str
    kinds: tuple[Kind, ...]
    ids: tuple[str, ...]
    """Which of the ids are exchanged; everything else is the outsider's own."""
    body: Callable[[Ids], Any] | None = None
    query: Callable[[Ids], dict[str, str]] = lambda _: {}
    as_product: str = "product_id"
    empty: str = ""
    """Why it is answered rather than refused, with nothing of the district."""

    def call(self, ids: Ids) -> Call:
        """The request."""
        return Call(self.method, self.path.format_map(ids), self.query(ids), self.body(ids) if self.body else None)


def _organization(*ids: str, **more: Any) -> Smuggled:
    return Smuggled(kinds=("organization",), ids=ids, **more)


def _product(*ids: str, **more: Any) -> Smuggled:
    return Smuggled(kinds=("product",), ids=ids, **more)


def _both(*ids: str, **more: Any) -> Smuggled:
    return Smuggled(kinds=("organization", "product"), ids=ids, **more)


def _here(ids: Ids) -> dict[str, str]:
    return {"integration": ids["integration_id"]}


def _party(ids: Ids) -> dict[str, str]:
    return {"organization": ids["organization_id"], "product_id": ids["product_id"]}


RECORDS: Final = "/v1/roster/records"
CASES: Final = (
    # the scheduler's and sso's
    _organization(
        "organization_id", service=SCHEDULER, method="POST", path="/v1/integrations", body=describe_integration
    ),
    _organization(
        "deleted_integration_id",
        service=SCHEDULER,
        method="POST",
        path="/v1/integrations",
        body=lambda ids: describe_integration(ids) | {"takes_over": ids["deleted_integration_id"]},
    ),
    _organization("organization_id", service=SCHEDULER, method="POST", path="/v1/alert-targets", body=describe_target),
    _organization(
        "integration_id",
        service=SCHEDULER,
        method="POST",
        path="/v1/alert-targets",
        body=lambda ids: describe_target(ids) | {"integration_id": ids["integration_id"]},
    ),
    _organization(
        "settled_integration_id",
        service=SCHEDULER,
        method="POST",
        path="/v1/classes/{class_id}/refresh",
        body=lambda ids: {"integration_id": ids["settled_integration_id"]},
    ),
    _organization(
        "organization_id",
        service=SSO,
        method="POST",
        path="/v1/clients",
        body=lambda ids: {"scopes": ["roster.read"], "organization_id": ids["organization_id"]},
    ),
    _organization("set_id", service=GATEWAY, method="GET", path="/v1/received/{csv_integration_id}/{set_id}"),
    # subscriptions and Canvas
    _both("organization_id", service=STORE, method="POST", path="/v1/subscriptions", body=describe_subscription),
    _both("integration_id", service=STORE, method="POST", path="/v1/subscriptions", body=describe_subscription),
    _product(
        "product_id",
        service=STORE,
        method="POST",
        path="/v1/subscriptions",
        body=lambda ids: describe_subscription(ids) | {"product_id": ids["product_id"]},
    ),
    _both("integration_id", service=STORE, method="POST", path="/v1/canvas/targets", body=describe_canvas),
    _both(
        "organization_id",
        service=STORE,
        method="POST",
        path="/v1/canvas/targets",
        body=lambda ids: describe_canvas(ids) | {"organization": ids["organization_id"]},
    ),
    _organization(
        "push",
        service=STORE,
        method="GET",
        path="/v1/canvas/targets/{target}/pushes/{push}",
    ),
    # rosters
    _both(
        "integration_id",
        service=STORE,
        method="POST",
        path="/v1/roster/search",
        body=lambda ids: {"q": "student", "integration": ids["integration_id"]},
    ),
    _both(
        "organization_id",
        service=STORE,
        method="POST",
        path="/v1/roster/search",
        body=lambda ids: {"q": "student", "organization": ids["organization_id"]},
    ),
    _product(
        "teacher_id",
        service=STORE,
        method="POST",
        path="/v1/roster/classes/{class_id}/start",
        as_product="starter_id",
        body=lambda ids: {"teacher_sourced_id": ids["teacher_id"]},
    ),
    _both(
        "integration_id",
        service=STORE,
        method="POST",
        path="/v1/roster/classes/{class_id}/start",
        as_product="starter_id",
        body=lambda ids: {
            "teacher_sourced_id": ids["teacher_id"],
            "integration_id": ids["integration_id"],
            "product_id": ids["starter_id"],
        },
    ),
    _organization(
        "starter_id",
        service=STORE,
        method="POST",
        path="/v1/roster/classes/{class_id}/start",
        body=lambda ids: {"teacher_sourced_id": ids["teacher_id"], "product_id": ids["starter_id"]},
    ),
    # manual records
    _organization(
        "integration_id",
        service=STORE,
        method="POST",
        path=f"{RECORDS}/orgs",
        query=_here,
        body=lambda ids: {"name": f"Annex {ids['mark']}", "type": "school"},
    ),
    _organization(
        "school_id",
        service=STORE,
        method="POST",
        path=f"{RECORDS}/users",
        query=_here,
        body=lambda ids: {
            "givenName": "Ada",
            "familyName": "Berg",
            "roles": [{"role": "student", "orgSourcedId": ids["school_id"]}],
        },
    ),
    _organization(
        "student_id",
        service=STORE,
        method="POST",
        path=f"{RECORDS}/enrollments",
        query=_here,
        body=lambda ids: {"userSourcedId": ids["student_id"], "classSourcedId": ids["class_id"], "role": "student"},
    ),
    # privacy
    _organization(
        "integration_id",
        service=STORE,
        method="POST",
        path="/v1/privacy/exports",
        body=lambda ids: {"integration_id": ids["integration_id"], "sourced_id": ids["student_id"]},
    ),
    _organization(
        "student_id",
        service=STORE,
        method="POST",
        path="/v1/privacy/exports",
        body=lambda ids: {"integration_id": ids["integration_id"], "sourced_id": ids["student_id"]},
        empty="it is what is held of a person, which of strangers is nothing",
    ),
    # accounts
    _both(
        "organization_id",
        service=STORE,
        method="PUT",
        path="/v1/accounts",
        query=_party,
        body=lambda _: {"accounts": [{"external_id": "smuggled"}]},
    ),
    _both(
        "product_id",
        service=STORE,
        method="PUT",
        path="/v1/accounts",
        query=_party,
        body=lambda _: {"accounts": [{"external_id": "smuggled"}]},
    ),
    *(
        _both(
            which,
            service=STORE,
            method="PUT",
            path="/v1/matching/links",
            query=_party,
            body=lambda ids: {
                "account_id": ids["account_id"],
                "integration": ids["integration_id"],
                "sourced_id": ids["student_id"],
                "replace": True,
            },
        )
        for which in ("account_id", "integration_id", "student_id")
    ),
)


async def check_smuggled(place: Neighbourhood, case: Smuggled) -> list[str]:
    """What the outsider got that they should not."""
    problems = []
    for kind in case.kinds:
        token = issue_token(place, kind, SCOPES, place.theirs, case.as_product)
        about = f"{case.method} {case.path} with {', '.join(case.ids)} as a {kind}"
        theirs, strangers = place.theirs.ids, {name: _make_unknown(place.ours.ids[name]) for name in case.ids}
        foreign = case.call({**theirs, **{name: place.ours.ids[name] for name in case.ids}})
        answer = await place.send(case.service, foreign, token)
        unknown = await place.send(case.service, case.call({**theirs, **strangers}), token)
        if answer.status_code not in (OWN if case.empty else REFUSED):
            problems.append(f"{about}: {answer.status_code} {answer.text[:300]}")
        elif found := find_secrets(place.ours, foreign, answer, everything=False):
            problems.append(f"{about}: {found} is in the answer")
        elif not case.empty and _strip(answer.text, place.ours.ids, case.ids) != _strip(
            unknown.text, strangers, case.ids
        ):
            problems.append(f"{about}: {answer.text[:300]}\n  but for an unknown one: {unknown.text[:300]}")
        own = await place.send(case.service, case.call(theirs), token)
        if own.status_code not in OWN:
            problems.append(f"{about}: their own is answered with {own.status_code} {own.text[:300]}")
    return problems


def _make_unknown(known: str) -> str:
    """An id that looks like this one, and is nobody's."""
    return str(uuid4()) if known.count("-") == 4 else f"nobody-{uuid4().hex[:8]}"


def _strip(text: str, ids: Ids, names: tuple[str, ...]) -> str:
    """An answer without the ids that were sent and the number of the request."""
    for name in names:
        text = text.replace(ids[name], "…")
    body = json.loads(text)
    body.pop("request_id", None)
    body.pop("imsx_messageRefIdentifier", None)
    return json.dumps(body)
