"""What kinds of identity providers do differently, as data; the code that speaks with them has no kinds in it.

Where a connection's own configuration says something else, that counts; see `sso.connections.upstreams.OidcConfig`.
What is None here is taken from the provider's metadata (discovery). Sources: ClassLink, developer.classlink.com
("Requesting access", "Obtaining bearer tokens", "My info"); Clever, dev.clever.com ("OIDC implementation",
"Identity API", "Instant Login design").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from sso.connections.upstreams import Kind


@dataclass(frozen=True, slots=True)
class Info:
    """How a portal is asked who a token is about, where its ID token does not say all of it.

    Args:
        url: what is asked with the access token, unless the connection has an `info_url`.
        record: a second question, where the first answer only names somebody: its URL with `{id}` in it for the first
            answer's id. Answers may wrap what they say in `data`, which is taken off.
        subject: fields that hold the portal's own user id; the first that is there counts, here and below. A number
            counts as its decimal text, an empty text as not there.
        tenant: fields that hold the tenant.
        person: fields that hold what is compared with the roster.
        name: fields that hold a name to show; a dot goes into an object.
    """

    url: str
    record: str | None = None
    subject: tuple[str, ...] = ()
    tenant: tuple[str, ...] = ()
    person: tuple[str, ...] = ()
    name: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Quirks:
    """What is special about a kind.

    Args:
        portal: its name for people.
        issuer: where a connection of this kind does not say one.
        authorization_endpoint: and the other endpoints: where neither the connection nor metadata says them; used
            without metadata where `openid` is off.
        openid: whether an ID token is expected unless the connection says otherwise.
        scopes: what is asked for. Empty: no `scope` parameter is sent.
        client_auth: how we prove to the token endpoint who we are: `basic` or `post` (in the body).
        exchange_as: how the token request is written: as a form (RFC 6749), or as JSON (Clever).
        tenant_claims: claims of the ID token or userinfo that hold the tenant; the first that is there counts.
        person_claims: claims that hold what is compared with the roster.
        name_claims: claims with a name to show.
        info: whom the access token is about, asked where the ID token is missing or lacks tenant or person.
        pkce: whether it understands PKCE; None: if its metadata lists S256.
        codes_without_state: whether its tiles send people to our callback with a code of its own; that code is thrown
            away and our own flow begins.
        authorize_parameters: sent along to the authorization endpoint always.
        tenant_parameter: the parameter that takes people straight to their district, if the tenant is known.
        asks_anew: whether it understands `prompt=login` and `max_age`.
        logout: whether it ends its own session when we ask (its metadata has an end_session_endpoint).
        tenant_required: whether its answers tell tenants apart, so that a connection must name its own.
        refused: errors at our callback, beside `access_denied`, that mean: this person may not come in.
    """

    portal: str
    issuer: str | None = None
    authorization_endpoint: str | None = None
    token_endpoint: str | None = None
    jwks_uri: str | None = None
    userinfo_endpoint: str | None = None
    openid: bool = True
    scopes: tuple[str, ...] = ("openid", "profile")
    client_auth: Literal["basic", "post"] = "basic"
    exchange_as: Literal["form", "json"] = "form"
    tenant_claims: tuple[str, ...] = ()
    person_claims: tuple[str, ...] = ()
    name_claims: tuple[str, ...] = ("name", "given_name")
    info: Info | None = None
    pkce: bool | None = None
    codes_without_state: bool = False
    authorize_parameters: Mapping[str, str] = field(default_factory=dict)
    tenant_parameter: str | None = None
    asks_anew: bool = True
    logout: bool = False
    tenant_required: bool = False
    refused: frozenset[str] = frozenset()


_CLASSLINK: Final = Quirks(
    portal="ClassLink",
    issuer="https://launchpad.classlink.com",
    authorization_endpoint="https://launchpad.classlink.com/oauth2/v2/auth",
    token_endpoint="https://launchpad.classlink.com/oauth2/v2/token",  # noqa: S106 - an address
    jwks_uri="https://launchpad.classlink.com/oauth2/v2/jwks",
    userinfo_endpoint="https://nodeapi.classlink.com/v2/my/profileinfo",
    scopes=("openid", "profile", "oneroster"),
    client_auth="post",
    tenant_claims=("classLink_tenant_id", "classLink_tenant_id_string"),
    person_claims=("classLink_sourcedId",),
    info=Info(
        url="https://nodeapi.classlink.com/v2/my/info",
        subject=("UserId",),
        tenant=("TenantId",),
        person=("SourcedId",),
        name=("DisplayName", "FirstName"),
    ),
    codes_without_state=True,
    asks_anew=False,
    tenant_required=True,
)

_CLEVER: Final = Quirks(
    portal="Clever",
    issuer="https://clever.com",
    authorization_endpoint="https://clever.com/oauth/authorize",
    token_endpoint="https://clever.com/oauth/tokens",  # noqa: S106 - an address
    userinfo_endpoint="https://api.clever.com/userinfo",
    scopes=(),
    client_auth="basic",
    exchange_as="json",
    tenant_claims=("district",),
    person_claims=("sub",),
    info=Info(
        url="https://api.clever.com/v3.0/me",
        record="https://api.clever.com/v3.0/users/{id}",
        subject=("id",),
        tenant=("district",),
        person=("id",),
        name=("name.first",),
    ),
    codes_without_state=True,
    tenant_parameter="district_id",
    asks_anew=False,
    tenant_required=True,
    refused=frozenset({"unauthorized-user", "unauthorized_user"}),
)

QUIRKS: Final[Mapping[Kind, Quirks]] = {
    "classlink": _CLASSLINK,
    "clever": _CLEVER,
    "oidc": Quirks(portal="the school's account", person_claims=("sourcedId", "sourced_id"), logout=True),
    "classlink-saml": Quirks(portal="ClassLink", openid=False, scopes=()),
    "saml": Quirks(portal="the school's account", openid=False, scopes=(), logout=True),
}
"""The quirks of every kind."""
