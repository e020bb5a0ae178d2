"""Rules for the scheduler's routes."""

from __future__ import annotations

from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authorization.additions import (
    PLAN,
    add_applied_run,
    add_held_run,
    add_integration,
    add_link,
    add_product,
    add_refresh,
    add_run,
    add_settled_integration,
    add_target,
)
from authorization.bodies import describe_integration, describe_target
from authorization.rules import DISTRICTS, PLATFORM, TEACHERS, AnyRule, Public, Rule

READ: Final = ("integrations.read",)
WRITE: Final = ("integrations.write",)
RUN: Final = ("runs.write",)
APPROVE: Final = ("runs.approve",)
LICENSE: Final = ("licenses.write",)
OF_DISTRICT: Final = {"organization_id": "organization_id"}
INTEGRATION: Final = "/v1/integrations/{integration_id}"
KEY: Final = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()

RULES: Final[tuple[AnyRule, ...]] = (
    # organizations and integrations
    Rule(
        method="POST",
        path="/v1/organizations",
        needs=WRITE,
        callers=PLATFORM,
        body=lambda ids: {"name": f"New district {ids['mark']}"},
    ),
    Rule(
        method="GET",
        path="/v1/organizations",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        shows=("organization_id", "mark"),
    ),
    Rule(
        method="GET",
        path="/v1/organizations/{organization_id}",
        needs=READ,
        callers=DISTRICTS,
        shows=("organization_id", "mark"),
    ),
    Rule(
        method="POST",
        path="/v1/integrations",
        needs=WRITE,
        callers=DISTRICTS,
        body=describe_integration,
        shows=("organization_id",),
    ),
    Rule(
        method="GET",
        path="/v1/integrations",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows=OF_DISTRICT,
        shows=("integration_id", "mark"),
    ),
    Rule(method="GET", path=INTEGRATION, needs=READ, callers=DISTRICTS, shows=("integration_id", "mark")),
    Rule(
        method="PATCH",
        path=INTEGRATION,
        needs=WRITE,
        callers=DISTRICTS,
        body=lambda ids: {"name": f"Renamed {ids['mark']}"},
    ),
    Rule(method="DELETE", path=INTEGRATION, needs=WRITE, callers=DISTRICTS, prepare=add_integration),
    Rule(
        method="POST",
        path=f"{INTEGRATION}/reset",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_integration,
        body=lambda _: {"confirm": True},
    ),
    # runs
    Rule(method="POST", path=f"{INTEGRATION}/runs", needs=RUN, callers=DISTRICTS, prepare=add_integration),
    Rule(method="GET", path=f"{INTEGRATION}/runs", needs=READ, callers=DISTRICTS, shows=("run_id",)),
    Rule(
        method="GET",
        path="/v1/runs/{run_id}",
        needs=(*READ, "classes.refresh"),
        either=True,
        callers=DISTRICTS | TEACHERS,
        prepare=add_refresh,
        ids={"run_id": "refresh_run_id"},  # of all runs, those of classes are seen by those who may refresh them
        shows=("refresh_run_id",),
    ),
    Rule(method="GET", path="/v1/runs/{run_id}/log", needs=READ, callers=DISTRICTS, shows=("run_id",)),
    Rule(method="POST", path="/v1/runs/{run_id}/cancel", needs=RUN, callers=DISTRICTS, prepare=add_run),
    Rule(
        method="POST",
        path="/v1/runs/{run_id}/restore",
        needs=APPROVE,
        callers=DISTRICTS,
        prepare=add_applied_run,
        body=lambda _: {"confirm": True},
    ),
    Rule(
        method="POST",
        path="/v1/runs/{run_id}/approve",
        needs=APPROVE,
        callers=DISTRICTS,
        prepare=add_held_run,
        body=lambda _: {"plan": PLAN},
    ),
    Rule(
        method="POST",
        path="/v1/runs/{run_id}/discard",
        needs=APPROVE,
        callers=DISTRICTS,
        prepare=add_held_run,
        body=lambda _: {"plan": PLAN},
    ),
    Rule(
        method="POST",
        path="/v1/classes/{class_sourced_id:path}/refresh",
        needs=("classes.refresh",),
        callers=DISTRICTS | TEACHERS,
        prepare=add_settled_integration,
        ids={"class_sourced_id": "class_id"},
        body=lambda ids: {"integration_id": ids["integration_id"], "teacher_sourced_id": ids["teacher_id"]},
    ),
    # who did what
    Rule(
        method="GET",
        path="/v1/audit",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows=OF_DISTRICT,
        query=OF_DISTRICT,
        shows=("organization_id", "license_id"),
    ),
    Rule(method="POST", path="/v1/audit/verifications", needs=READ, callers=PLATFORM),
    # schedules
    Rule(
        method="POST",
        path=f"{INTEGRATION}/pause",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_integration,
        body=lambda ids: {"reason": f"holidays of {ids['mark']}"},
    ),
    Rule(method="POST", path=f"{INTEGRATION}/resume", needs=WRITE, callers=DISTRICTS, prepare=add_integration),
    Rule(
        method="GET",
        path=f"{INTEGRATION}/slots",
        needs=READ,
        callers=DISTRICTS,
        shows=('"items"',),
        single_page="slots come with time only",
    ),
    # questions to providers
    Rule(method="POST", path=f"{INTEGRATION}/verify", needs=RUN, callers=DISTRICTS, shows=("inquiry_id",)),
    Rule(method="GET", path=f"{INTEGRATION}/schools", needs=READ, callers=DISTRICTS, shows=('"inquiry_id"',)),
    Rule(
        method="GET",
        path="/v1/inquiries/{inquiry_id}",
        needs=(*READ, *RUN),
        either=True,
        callers=DISTRICTS,
        shows=("inquiry_id", "integration_id"),
    ),
    # the inbox
    Rule(
        method="POST",
        path=f"{INTEGRATION}/sftp-account",
        needs=WRITE,
        callers=DISTRICTS,
        ids={"integration_id": "csv_integration_id"},
        body=lambda _: {"auth": "key", "public_key": KEY},
    ),
    Rule(
        method="DELETE",
        path=f"{INTEGRATION}/sftp-account",
        needs=WRITE,
        callers=DISTRICTS,
        ids={"integration_id": "csv_integration_id"},
    ),
    # products and licenses
    Rule(
        method="POST",
        path="/v1/products",
        needs=LICENSE,
        callers=PLATFORM,
        body=lambda ids: {"name": f"Another {ids['mark']}"},
    ),
    Rule(method="GET", path="/v1/products", needs=READ, callers=DISTRICTS, blind=True, shows=("product_id", "mark")),
    Rule(method="GET", path="/v1/products/{product_id}", needs=READ, callers=DISTRICTS, shows=("product_id", "mark")),
    Rule(
        method="PATCH",
        path="/v1/products/{product_id}",
        needs=LICENSE,
        callers=PLATFORM,
        prepare=add_product,
        body=lambda ids: {"name": f"Renamed {ids['mark']}"},
    ),
    Rule(method="DELETE", path="/v1/products/{product_id}", needs=LICENSE, callers=PLATFORM, prepare=add_product),
    Rule(
        method="POST",
        path="/v1/licenses",
        needs=LICENSE,
        callers=PLATFORM,
        body=lambda ids: {"product_id": ids["product_id"], "organization_id": ids["organization_id"]},
    ),
    Rule(
        method="GET",
        path="/v1/licenses",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows={**OF_DISTRICT, "product_id": "product_id"},
        shows=("license_id",),
    ),
    Rule(method="GET", path="/v1/licenses/{license_id}", needs=READ, callers=DISTRICTS, shows=("license_id",)),
    Rule(
        method="PATCH",
        path="/v1/licenses/{license_id}",
        needs=LICENSE,
        callers=PLATFORM,
        prepare=add_product,
        body=lambda _: {"revoked": True},
    ),
    # alerts
    Rule(method="POST", path="/v1/alert-targets", needs=WRITE, callers=DISTRICTS, body=describe_target),
    Rule(
        method="GET",
        path="/v1/alert-targets",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows=OF_DISTRICT,
        shows=("target_id", "mark"),
    ),
    Rule(method="DELETE", path="/v1/alert-targets/{target_id}", needs=WRITE, callers=DISTRICTS, prepare=add_target),
    Rule(
        method="POST",
        path="/v1/alert-targets/{target_id}/rotate",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_target,
    ),
    Rule(method="POST", path="/v1/alert-targets/{target_id}/test", needs=WRITE, callers=DISTRICTS),
    Rule(
        method="GET",
        path="/v1/alerts",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        narrows={**OF_DISTRICT, "integration_id": "integration_id"},
        shows=("alert_id",),
    ),
    Rule(method="GET", path="/v1/alerts/{alert_id}", needs=READ, callers=DISTRICTS, shows=("alert_id",)),
    Rule(method="PUT", path=f"{INTEGRATION}/mute", needs=WRITE, callers=DISTRICTS, body=lambda _: {"muted": True}),
    Rule(method="GET", path=f"{INTEGRATION}/mute", needs=READ, callers=DISTRICTS, shows=("integration_id",)),
    # credential links
    Rule(
        method="POST",
        path=f"{INTEGRATION}/credential-links",
        needs=WRITE,
        callers=DISTRICTS,
        body=lambda ids: {"note": f"for {ids['mark']}"},
    ),
    Rule(
        method="GET",
        path=f"{INTEGRATION}/credential-links",
        needs=READ,
        callers=DISTRICTS,
        shows=("link_id", "mark"),
    ),
    Rule(method="DELETE", path="/v1/credential-links/{link_id}", needs=WRITE, callers=DISTRICTS, prepare=add_link),
    Public(method="GET", path="/connect/style.css", reason="how the pages of credential links look"),
    Public(
        method="GET",
        path="/connect/{token}",
        reason="the link is the credential: whoever has it may look at its page, and nobody else",
        parameters={"token": "A" * 43},
        status=404,
    ),
    Public(
        method="POST",
        path="/connect/{token}",
        reason="the same, to enter what it asks for",
        parameters={"token": "A" * 43},
        status=404,
    ),
)
