"""The table of all rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE
from authorization.other_rules import GATEWAY_RULES, SSO_RULES, list_common
from authorization.rules import AnyRule
from authorization.scheduler_rules import RULES as SCHEDULER_RULES
from authorization.sso_connections_rules import SSO_CONNECTIONS_RULES
from authorization.sso_handover_rules import SSO_HANDOVER_RULES
from authorization.sso_launches_rules import SSO_LAUNCHES_RULES
from authorization.sso_provider_rules import SSO_PROVIDER_RULES
from authorization.sso_saml_rules import SSO_SAML_RULES
from authorization.sso_staff_rules import SSO_STAFF_RULES
from authorization.sso_upstream_rules import SSO_UPSTREAM_RULES
from authorization.store_rules import RULES as STORE_RULES

TABLE: Final[Mapping[str, tuple[AnyRule, ...]]] = {
    service: (*list_common(service), *rules)
    for service, rules in (
        (SCHEDULER, SCHEDULER_RULES),
        (GATEWAY, GATEWAY_RULES),
        (STORE, STORE_RULES),
        (
            SSO,
            (
                *SSO_RULES,
                *SSO_CONNECTIONS_RULES,
                *SSO_HANDOVER_RULES,
                *SSO_LAUNCHES_RULES,
                *SSO_PROVIDER_RULES,
                *SSO_SAML_RULES,
                *SSO_STAFF_RULES,
                *SSO_UPSTREAM_RULES,
            ),
        ),
    )
}
"""Service → a rule for each of its routes."""
