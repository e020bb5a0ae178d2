"""What an upstream proved, whichever protocol it speaks: the one shape that identification goes by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sso.connections.upstreams import Upstream


@dataclass(frozen=True, slots=True)
class Arrival:
    """Somebody whom an upstream has just vouched for, after every check of the protocol.

    Args:
        upstream: who vouches.
        subject: the portal's own user id, exactly as sent.
        tenant: the district in the portal's words, exactly as sent; None where the portal has no such thing.
        person_key: what is compared with the roster (OneRoster's sourcedId unless the connection says otherwise); None
            where the portal did not send it.
        shown_as: a name to show, if the portal gave one; never logged, stored or compared for rostered people.
        auth_time: when they signed in to the portal, if it said so.
        logout: what single logout needs of it (`name_id`, `name_id_format`, `session_index`).
        claims: the names of claims or attributes that came, without their values: for the self-test.
    """

    upstream: Upstream
    subject: str = field(repr=False)
    tenant: str | None = None
    person_key: str | None = field(default=None, repr=False)
    shown_as: str | None = field(default=None, repr=False)
    auth_time: datetime | None = None
    logout: Mapping[str, str] | None = field(default=None, repr=False)
    claims: tuple[str, ...] = ()
