"""From an assertion that holds to somebody vouched for, and the step between the portal's post and our own page."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from uuid import UUID

import msgspec

from homeroom.codes import Code
from homeroom.db import Database
from sso.connections.upstreams import Upstream
from sso.launch.arrivals import Arrival
from sso.launch.flows import Intent, hash_token, make_token
from sso.launch.refusals import Refused
from sso.launch.traces import Purpose, Trace
from sso.saml.names import TRANSIENT
from sso.saml.profile import Assertion, is_plain
from sso.statements import SQL

LANDING_SECONDS: Final = 60


class Landed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody whose assertion was verified, until their browser takes the next step."""

    launch_id: UUID
    support_id: str
    purpose: Purpose
    product_id: UUID | None = None
    destination: str | None = None
    connection_id: UUID | None = None
    resume: str | None = None
    fresh: bool = False
    restarts: int = 0
    subject: str
    tenant: str | None = None
    person_key: str | None = None
    shown_as: str | None = None
    auth_time: datetime
    logout: dict[str, str]
    claims: tuple[str, ...]

    @property
    def intent(self) -> Intent:
        """What they want."""
        return Intent(**{name: getattr(self, name) for name in Intent.__slots__})

    def arrive(self, upstream: Upstream) -> Arrival:
        """Who they are to the upstream."""
        names = ("subject", "tenant", "person_key", "shown_as", "auth_time", "logout", "claims")
        return Arrival(upstream, **{name: getattr(self, name) for name in names})


class Landings:
    """Keeps who landed for a minute, for their own browser."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, upstream: Upstream, browser: str, landed: Landed) -> str:
        """A token for the next step."""
        token = make_token()
        kept = msgspec.to_builtins(landed)
        await self._database.fetch(
            SQL["keep_saml_arrival"], hash_token(token), hash_token(browser), upstream.id, kept, LANDING_SECONDS
        )
        return token

    async def take(self, upstream: Upstream, browser: str | None, token: str) -> Landed | None:
        """Who landed with this token in this browser; nobody finds them twice."""
        if browser is None:
            return None
        kept = await self._database.fetchval(
            SQL["take_saml_arrival"], hash_token(token), hash_token(browser), upstream.id
        )
        return None if kept is None else msgspec.convert(kept, Landed)


def make_arrival(upstream: Upstream, assertion: Assertion) -> Arrival:
    """Whom an assertion vouches for, in the attributes the connection names. Raises `Refused`.

    An id that changes with every sign-in (a transient NameID) is nobody's.
    """
    config = upstream.saml
    if config.subject_attribute is None and assertion.name_id_format == TRANSIENT:
        raise _refuse("the NameID is transient and no attribute is set")
    subject = _read(assertion, config.subject_attribute)
    if subject is None:
        raise _refuse("the attribute with the user id is missing")
    tenant = None if config.tenant_attribute is None else _read(assertion, config.tenant_attribute)
    if config.tenant_attribute is not None and tenant is None:
        raise _refuse("the attribute with the tenant is missing")
    shown = None if config.name_attribute is None else assertion.attributes.get(config.name_attribute, ())
    logout = {
        "upstream_id": str(upstream.id),
        "name_id": assertion.name_id,
        "name_id_format": assertion.name_id_format,
        "session_index": assertion.session_index,
    }
    return Arrival(
        upstream=upstream,
        subject=subject,
        tenant=tenant,
        person_key=_read(assertion, config.person_attribute),
        shown_as=shown[0][:200] if shown else None,
        auth_time=assertion.authn_instant,
        logout={name: value for name, value in logout.items() if value is not None},
        claims=tuple(sorted(assertion.attributes)),
    )


def land(arrival: Arrival, intent: Intent, trace: Trace) -> Landed:
    """What is kept of somebody between two steps."""
    assert arrival.auth_time is not None and arrival.logout is not None  # noqa: S101, PT018 - `make_arrival` sets both
    return Landed(
        launch_id=trace.id,
        support_id=trace.support_id,
        **{name: getattr(intent, name) for name in Intent.__slots__},
        subject=arrival.subject,
        tenant=arrival.tenant,
        person_key=arrival.person_key,
        shown_as=arrival.shown_as,
        auth_time=arrival.auth_time,
        logout=dict(arrival.logout),
        claims=arrival.claims,
    )


def _read(assertion: Assertion, attribute: str | None) -> str | None:
    """One text: the attribute's, or the NameID. None where the attribute did not come or is empty."""
    if attribute is None:
        return assertion.name_id
    values = assertion.attributes.get(attribute, ())
    if not any(values):
        return None
    if len(values) > 1:
        raise _refuse("an attribute that must be one has several values")
    if not is_plain(values[0]):
        raise _refuse("an attribute is not plain text")
    return values[0]


def _refuse(why: str) -> Refused:
    return Refused(Code.SIGNIN_ASSERTION_INVALID, why)
