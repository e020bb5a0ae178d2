"""Whatever a person or a product does over HTTP leaves a line in an audit log, or the reason why not stands here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from authorization.routes import list_routes

from homeroom_local.documents import SERVICES

ROOT = Path(__file__).parents[1]
CHANGING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
READING = "it reads, and changes nothing"
TRIED = "it tells whether something works, and changes nothing"
LEADS_ON = "it leads to the same by GET"
SIGN_IN = "somebody signs in or out, or goes on with that: the launch's trace and the session keep it"

ACTIONS: dict[str, dict[tuple[str, str], str]] = {
    "roster-store": {
        ("DELETE", "/v1/accounts/{account_id}"): "account.delete",
        ("DELETE", "/v1/canvas/targets/{target}"): "canvas-target.delete",
        ("DELETE", "/v1/matching/links/{account_id}"): "account.unlink",
        ("DELETE", "/v1/privacy/erasures/{erasure_id}/block"): "person.unblock",
        ("DELETE", "/v1/roster/records/{collection}/{sourced_id}"): "record.delete",
        ("DELETE", "/v1/subscriptions/{subscription_id}"): "subscription.delete",
        ("PATCH", "/v1/accounts/{account_id}"): "account.name",
        ("PATCH", "/v1/canvas/targets/{target}"): "canvas-target.change",
        ("PATCH", "/v1/roster/records/{collection}/{sourced_id}"): "record.change",
        ("PATCH", "/v1/subscriptions/{subscription_id}"): "subscription.change",
        ("POST", "/v1/canvas/targets"): "canvas-target.create",
        ("POST", "/v1/canvas/targets/{target}/pushes"): "canvas-push.request",
        ("POST", "/v1/people/link"): "account.link",
        ("POST", "/v1/privacy/erasures"): "person.erase",
        ("POST", "/v1/privacy/exports"): "person.export",
        ("POST", "/v1/privacy/searches"): "data.search",
        ("POST", "/v1/roster/classes/{sourced_id}/start"): "class.start",
        ("POST", "/v1/roster/records/{collection}"): "record.create",
        ("POST", "/v1/subscriptions"): "subscription.create",
        ("POST", "/v1/subscriptions/{subscription_id}/enable"): "subscription.enable",
        ("POST", "/v1/subscriptions/{subscription_id}/redeliveries"): "subscription.redeliver",
        ("POST", "/v1/subscriptions/{subscription_id}/secret-rotations"): "subscription.rotate",
        ("PUT", "/v1/accounts"): "accounts.put",
        ("PUT", "/v1/matching/links"): "account.link",
        ("PUT", "/v1/roster/records/{collection}/{sourced_id}"): "record.change",
    },
    "sso": {
        ("DELETE", "/v1/clients/{client_id}"): "client.disable",
        ("DELETE", "/v1/connections/{connection_id}"): "connection.delete",
        ("DELETE", "/v1/portal-applications/{application_id}"): "portal-application.delete",
        ("DELETE", "/v1/relying-parties/{client_id}"): "relying-party.delete",
        ("DELETE", "/v1/staff/invitations/{invitation_id}"): "staff.withdraw",
        ("DELETE", "/v1/staff/{account_id}/roles/{role_id}"): "staff-role.revoke",
        ("PATCH", "/v1/connections/{connection_id}"): "connection.change",
        ("PATCH", "/v1/portal-applications/{application_id}"): "portal-application.change",
        ("PATCH", "/v1/staff/{account_id}"): "staff.change",
        ("POST", "/sso/accounts/disconnect"): "account-link.remove",
        ("POST", "/sso/link/confirmations/{request_id}"): "account-link.confirm",
        ("POST", "/sso/staff/invitations/{token}"): "staff.accept",
        ("POST", "/v1/account-links"): "account-link.request",
        ("POST", "/v1/account-links/removals"): "account-link.remove",
        ("POST", "/v1/clients"): "client.create",
        ("POST", "/v1/clients/{client_id}/secrets"): "client.exchange-secret",
        ("POST", "/v1/connections"): "connection.create",
        ("POST", "/v1/connections/{connection_id}/identities/removals"): "identity.untie",
        ("POST", "/v1/connections/{connection_id}/metadata-change/approve"): "metadata-change.approve",
        ("POST", "/v1/connections/{connection_id}/metadata-change/discard"): "metadata-change.discard",
        ("POST", "/v1/connections/{connection_id}/test-sign-ins"): "test-sign-in.begin",
        ("POST", "/v1/portal-applications"): "portal-application.create",
        ("POST", "/v1/staff"): "staff.register",
        ("POST", "/v1/staff/invitations"): "staff.invite",
        ("POST", "/v1/staff/{account_id}/roles"): "staff-role.grant",
        ("PUT", "/v1/relying-parties/{client_id}"): "relying-party.put",
    },
}
"""What each changing route is written down as."""
SILENT: dict[str, dict[tuple[str, str], str]] = {
    "roster-store": {
        ("POST", "/v1/canvas/targets/{target}/test"): TRIED,
        ("POST", "/v1/fingerprints/{integration_id}/class-members"): READING,
        ("POST", "/v1/fingerprints/{integration_id}/{collection}/ids"): READING,
        ("POST", "/v1/matching/runs"): "it does at once what happens by itself after every change",
        ("POST", "/v1/people/resolve"): READING,
        ("POST", "/v1/privacy/audit/verifications"): READING,
        ("POST", "/v1/roster/search"): READING,
        ("POST", "/v1/subscriptions/{subscription_id}/test"): TRIED,
    },
    "sso": {
        ("POST", "/oauth2/authorize"): LEADS_ON,
        ("POST", "/oauth2/introspect"): READING,
        ("POST", "/oauth2/logout"): LEADS_ON,
        ("POST", "/oauth2/logout/confirmed"): SIGN_IN,
        ("POST", "/oauth2/revoke"): SIGN_IN,
        ("POST", "/oauth2/token"): SIGN_IN,
        ("POST", "/oauth2/userinfo"): READING,
        ("POST", "/sso/callback/{upstream_id}"): "it refuses everybody",
        ("POST", "/sso/lti/authorize"): LEADS_ON,
        ("POST", "/sso/saml/{upstream_id}/acs"): SIGN_IN,
        ("POST", "/sso/saml/{upstream_id}/slo"): SIGN_IN,
        ("POST", "/sso/sign-out"): SIGN_IN,
        ("POST", "/sso/staff/local"): SIGN_IN,
        ("POST", "/sso/tickets/redeem"): SIGN_IN,
        ("POST", "/v1/connections/{connection_id}/test"): TRIED,
        ("POST", "/v1/sign-in/audit/verifications"): READING,
    },
}


@cache
def list_words(package: str) -> frozenset[str]:
    """Every text that stands in a service's code, and what f-strings begin with."""

    def find() -> Iterator[str]:
        for path in ROOT.glob(f"services/*/src/{package}/**/*.py"):
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value

    return frozenset(find())


def test_every_action_is_written_down() -> None:
    """Each route that changes something names its action, and the service's code writes such a line."""
    for service in SERVICES:
        if service.name not in ACTIONS:
            continue
        actions, silent = ACTIONS[service.name], SILENT[service.name]
        routes = {one for one in list_routes(service.make_app()) if one[0] in CHANGING}
        words = list_words(service.package)
        missing = {
            action
            for action in actions.values()
            if action not in words and not {f"{action.split('.')[0]}.", action.split(".")[1]} <= words
        }

        assert actions.keys().isdisjoint(silent)
        assert routes - actions.keys() - silent.keys() == set()
        assert (actions.keys() | silent.keys()) - routes == set()
        assert missing == set()
