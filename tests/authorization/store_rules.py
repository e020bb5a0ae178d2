"""Rules for the store's routes, but for those a roster is served by."""

from __future__ import annotations

from typing import Final

from authorization.additions import (
    add_account,
    add_canvas_target,
    add_erasure,
    add_linked_account,
    add_record,
    add_subscription,
)
from authorization.bodies import (
    describe_accounts,
    describe_canvas,
    describe_erasure,
    describe_link,
    describe_subscription,
)
from authorization.roster_rules import ROSTER_RULES
from authorization.rules import DISTRICTS, EVERYBODY, PLATFORM, AnyRule, Rule

BETWEEN_SERVICES: Final = ("fingerprints.read",)
RESOLVE: Final = ("people.resolve",)
READ: Final = ("roster.read",)
PRIVACY: Final = ("privacy.write",)
SUBSCRIBE: Final = ("subscriptions.write",)
ACCOUNTS: Final = ("accounts.write",)
OF_INTEGRATION: Final = {"integration": "integration_id"}
OF_DISTRICT: Final = {"organization_id": "organization_id"}
PARTY: Final = {"organization": "organization_id", "product_id": "product_id"}
SUBSCRIPTION: Final = "/v1/subscriptions/{subscription_id}"
TARGET: Final = "/v1/canvas/targets/{target}"

RULES: Final[tuple[AnyRule, ...]] = (
    *ROSTER_RULES,
    # between the services
    Rule(
        method="GET",
        path="/v1/fingerprints/{integration_id}/{collection}",
        needs=BETWEEN_SERVICES,
        callers=PLATFORM,
        ids={"collection": "users"},
        shows=("student_key",),
    ),
    Rule(
        method="POST",
        path="/v1/fingerprints/{integration_id}/{collection}/ids",
        needs=BETWEEN_SERVICES,
        callers=PLATFORM,
        ids={"collection": "users"},
        body=lambda ids: {"keys": [ids["student_key"]]},
        shows=("student_id",),
    ),
    Rule(
        method="POST",
        path="/v1/fingerprints/{integration_id}/class-members",
        needs=BETWEEN_SERVICES,
        callers=PLATFORM,
        body=lambda ids: {"class_sourced_id": ids["class_id"], "user_sourced_ids": [ids["student_id"]]},
        shows=("class_id", "student_id"),
    ),
    Rule(
        method="POST",
        path="/v1/people/resolve",
        needs=RESOLVE,
        callers=PLATFORM,
        body=lambda ids: {
            "integration_id": ids["integration_id"],
            "value": ids["student_id"],
            "product_id": ids["product_id"],
        },
        shows=("student_id",),
    ),
    Rule(
        method="POST",
        path="/v1/people/link",
        needs=RESOLVE,
        callers=PLATFORM,
        body=lambda ids: {
            "action": "unlink",
            "product_id": ids["product_id"],
            "organization_id": ids["organization_id"],
            "integration_id": ids["integration_id"],
            "sourced_id": ids["student_id"],
            "external_id": "nobody's",
        },
        shows=("unknown",),
    ),
    # plans
    Rule(
        method="GET",
        path="/v1/plans/{run_id}",
        needs=READ,
        callers=DISTRICTS,
        ids={"run_id": "plan_run"},
        shows=("plan_run", "integration_id"),
    ),
    Rule(
        method="GET",
        path="/v1/plans/{run_id}/changes.csv",
        needs=READ,
        callers=DISTRICTS,
        ids={"run_id": "plan_run"},
        shows=("mark",),
    ),
    # privacy
    Rule(
        method="POST",
        path="/v1/privacy/exports",
        needs=PRIVACY,
        callers=DISTRICTS,
        body=lambda ids: {"integration_id": ids["integration_id"], "sourced_id": ids["student_id"]},
        shows=("student_id", "2014-02-03"),
    ),
    Rule(
        method="POST",
        path="/v1/privacy/erasures",
        needs=PRIVACY,
        callers=DISTRICTS,
        prepare=add_record,
        body=describe_erasure,
    ),
    Rule(
        method="GET",
        path="/v1/privacy/erasures/{erasure_id}",
        needs=PRIVACY,
        callers=DISTRICTS,
        shows=("erasure_id", "integration_id"),
    ),
    Rule(
        method="DELETE",
        path="/v1/privacy/erasures/{erasure_id}/block",
        needs=PRIVACY,
        callers=DISTRICTS,
        prepare=add_erasure,
    ),
    Rule(
        method="POST",
        path="/v1/privacy/searches",
        needs=PRIVACY,
        callers=PLATFORM,
        body=lambda ids: {"texts": [ids["student_id"]]},
        shows=("users",),
    ),
    Rule(
        method="GET",
        path="/v1/privacy/audit",
        needs=PRIVACY,
        callers=DISTRICTS,
        blind=True,
        narrows=OF_DISTRICT,
        query=OF_DISTRICT,
        shows=("organization_id",),
    ),
    Rule(method="POST", path="/v1/privacy/audit/verifications", needs=PRIVACY, callers=PLATFORM),
    # subscriptions
    Rule(
        method="POST",
        path="/v1/subscriptions",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        body=describe_subscription,
        outsiders=frozenset({403, 404, 422}),  # the body is at fault: it names what is not theirs
        shows=("organization_id", "integration_id"),
    ),
    Rule(
        method="GET",
        path="/v1/subscriptions",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        blind=True,
        shows=("mark", "organization_id"),
    ),
    Rule(
        method="GET", path=SUBSCRIPTION, needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_subscription, shows=("mark",)
    ),
    Rule(
        method="PATCH",
        path=SUBSCRIPTION,
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_subscription,
        body=lambda _: {"batch": 7},
    ),
    Rule(method="DELETE", path=SUBSCRIPTION, needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_subscription),
    Rule(method="POST", path=f"{SUBSCRIPTION}/enable", needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_subscription),
    Rule(
        method="POST",
        path=f"{SUBSCRIPTION}/secret-rotations",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_subscription,
    ),
    Rule(
        method="POST",
        path=f"{SUBSCRIPTION}/redeliveries",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_subscription,
        body=lambda _: {"start": "beginning"},
    ),
    Rule(method="POST", path=f"{SUBSCRIPTION}/test", needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_subscription),
    # Canvas
    Rule(
        method="POST",
        path="/v1/canvas/targets",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        body=describe_canvas,
        shows=("integration_id",),
    ),
    Rule(
        method="GET",
        path="/v1/canvas/targets",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        blind=True,
        shows=("integration_id", "mark"),
    ),
    Rule(method="GET", path=TARGET, needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_canvas_target, shows=("mark",)),
    Rule(
        method="PATCH",
        path=TARGET,
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_canvas_target,
        body=lambda _: {"change_threshold": 7},
    ),
    Rule(method="DELETE", path=TARGET, needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_canvas_target),
    Rule(method="POST", path=f"{TARGET}/test", needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_canvas_target),
    Rule(method="POST", path=f"{TARGET}/pushes", needs=SUBSCRIBE, callers=EVERYBODY, prepare=add_canvas_target),
    Rule(
        method="GET",
        path=f"{TARGET}/pushes",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_canvas_target,
        shows=("push",),
    ),
    Rule(
        method="GET",
        path=f"{TARGET}/pushes/{{push}}",
        needs=SUBSCRIBE,
        callers=EVERYBODY,
        prepare=add_canvas_target,
        shows=("push",),
    ),
    # accounts and matching
    Rule(
        method="PUT",
        path="/v1/accounts",
        needs=ACCOUNTS,
        callers=EVERYBODY,
        query=PARTY,
        ids={"external_id": "student_id"},
        body=describe_accounts,
    ),
    Rule(
        method="GET", path="/v1/accounts", needs=ACCOUNTS, callers=EVERYBODY, query=PARTY, shows=("account_id", "mark")
    ),
    Rule(method="GET", path="/v1/accounts/{account_id}", needs=ACCOUNTS, callers=EVERYBODY, shows=("account_id",)),
    Rule(
        method="PATCH",
        path="/v1/accounts/{account_id}",
        needs=ACCOUNTS,
        callers=EVERYBODY,
        prepare=add_account,
        body=lambda ids: {"external_id": f"named-{ids['account_id']}"},
    ),
    Rule(
        method="DELETE",
        path="/v1/accounts/{account_id}",
        needs=ACCOUNTS,
        callers=EVERYBODY,
        prepare=add_account,
    ),
    Rule(method="GET", path="/v1/accounts/{account_id}/history", needs=READ, callers=EVERYBODY, shows=("student_id",)),
    Rule(
        method="GET",
        path="/v1/matching/unmatched",
        needs=READ,
        callers=EVERYBODY,
        query=PARTY,
        shows=("teacher_id", "mark"),
    ),
    Rule(method="GET", path="/v1/matching/links", needs=READ, callers=EVERYBODY, query=PARTY, shows=("student_id",)),
    Rule(
        method="PUT",
        path="/v1/matching/links",
        needs=ACCOUNTS,
        callers=EVERYBODY,
        query=PARTY,
        prepare=add_account,
        body=describe_link,
    ),
    Rule(
        method="DELETE",
        path="/v1/matching/links/{account_id}",
        needs=ACCOUNTS,
        callers=EVERYBODY,
        prepare=add_linked_account,
    ),
    Rule(method="POST", path="/v1/matching/runs", needs=ACCOUNTS, callers=EVERYBODY, query=PARTY),
    Rule(
        method="GET",
        path="/v1/matching/summary",
        needs=READ,
        callers=EVERYBODY,
        query=PARTY,
        shows=("integration_id",),
    ),
)
