"""The table of all rules."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from authorization.districts import GATEWAY, SCHEDULER, SSO, STORE
from authorization.other_rules import GATEWAY_RULES, SSO_RULES, list_common
from authorization.rules import AnyRule
from authorization.scheduler_rules import RULES as SCHEDULER_RULES
from authorization.store_rules import RULES as STORE_RULES

TABLE: Final[Mapping[str, tuple[AnyRule, ...]]] = {
    service: (*list_common(service), *rules)
    for service, rules in (
        (SCHEDULER, SCHEDULER_RULES),
        (GATEWAY, GATEWAY_RULES),
        (STORE, STORE_RULES),
        (SSO, SSO_RULES),
    )
}
"""Service → a rule for each of its routes."""
