"""Rules for the connections of districts, and for the portal applications they share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from authorization.districts import SSO, District, Neighbourhood
from authorization.rules import DISTRICTS, PLATFORM, AnyRule, Ids, Kind, Public, Rule
from authorization.sso_staff_rules import know_district

PATH: Final = "/v1/connections"
ONE: Final = f"{PATH}/{{connection_id}}"
CHANGE: Final = f"{ONE}/metadata-change"
APPLICATIONS: Final = "/v1/portal-applications"
APPLICATION: Final = f"{APPLICATIONS}/{{application_id}}"
READ: Final = ("connections.read",)
WRITE: Final = ("connections.write",)
HASH: Final = "ab" * 32


@cache
def make_certificate() -> str:
    """A certificate of nobody in particular."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    lasting = builder.not_valid_before(now).not_valid_after(now + timedelta(days=365))
    made = lasting.sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.PEM).decode()


def describe_connection(ids: Ids) -> dict[str, Any]:
    """A SAML connection of the district, which needs nothing of anybody else."""
    idp = f"https://{ids['mark']}.example.org"
    saml = {"entity_id": idp, "sso_url": f"{idp}/sso", "certificates": [make_certificate()]}
    place = {"organization_id": ids["organization_id"], "rostering": "optional"}
    return {"kind": "saml", "name": f"Door {ids['mark']}", "saml": saml, **place}


def describe_application(ids: Ids) -> dict[str, Any]:
    """An application at Clever."""
    return {
        "kind": "clever",
        "name": f"Clever {ids['mark']}",
        "oidc": {"client_id": f"client-{ids['mark']}", "client_secret": f"secret-{ids['mark']}"},
    }


async def add_connection(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """A connection of the district, and one before it for lists to have a second page."""
    await know_district(place, district, kind)
    made = [await place.ask(SSO, "POST", PATH, describe_connection(district.ids)) for _ in range(2)]
    return district.hide(connection_id=made[1]["id"])


async def add_change(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """A connection whose metadata has changed."""
    ids = await add_connection(place, district, kind)
    entity_id = f"https://{district.mark}.example.org"
    found = {"entity_id": entity_id, "sso_url": f"{entity_id}/new", "slo_url": None}
    await place.apps[SSO].state.database.fetch(
        "INSERT INTO metadata_change (upstream_id, hash, found) VALUES ($1, $2, $3)",
        UUID(ids["connection_id"]),
        HASH,
        found | {"certificates": [make_certificate()]},
    )
    return ids


async def add_test(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """A connection that is tried out."""
    ids = await add_connection(place, district, kind)
    made = await place.ask(SSO, "POST", f"{PATH}/{ids['connection_id']}/test-sign-ins")
    return ids | district.hide(test_id=made["id"], test_token=made["url"].rpartition("/")[2])


async def add_tie(place: Neighbourhood, district: District, kind: Kind = "platform") -> dict[str, str]:
    """A connection whose portal has a user that is tied to somebody of a roster."""
    ids = await add_connection(place, district, kind)
    await place.apps[SSO].state.database.fetch(
        "WITH door AS ("
        "    UPDATE connection SET integration_id = gen_random_uuid() WHERE id = $1 RETURNING *"
        "), somebody AS ("
        "    INSERT INTO person (organization_id) SELECT organization_id FROM door RETURNING id"
        "), named AS ("
        "    INSERT INTO person_name (integration_id, sourced_id, person_id, current) "
        "    SELECT door.integration_id, $2, somebody.id, true FROM door, somebody"
        ") INSERT INTO identity (connection_id, tenant, subject, person_id) SELECT $1, '', $2, id FROM somebody",
        UUID(ids["connection_id"]),
        f"tied-{district.mark}",
    )
    return ids | district.hide(tied=f"tied-{district.mark}")


async def add_application(place: Neighbourhood, district: District, _: Kind = "platform") -> dict[str, str]:
    """A portal application, and one before it."""
    made = [await place.ask(SSO, "POST", APPLICATIONS, describe_application(district.ids)) for _ in range(2)]
    return district.hide(application_id=made[1]["id"])


def name_change(_: Ids) -> dict[str, str]:
    """The change that waits."""
    return {"hash": HASH}


SSO_CONNECTIONS_RULES: Final[tuple[AnyRule, ...]] = (
    Rule(
        method="POST",
        path=PATH,
        needs=WRITE,
        callers=DISTRICTS,
        prepare=know_district,
        body=describe_connection,
        shows=("organization_id",),
    ),
    Rule(
        method="GET",
        path=PATH,
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        prepare=add_connection,
        narrows={"organization_id": "organization_id", "search": "mark"},
        shows=("connection_id",),
    ),
    Rule(method="GET", path=ONE, needs=READ, callers=DISTRICTS, prepare=add_connection, shows=("connection_id",)),
    Rule(
        method="PATCH",
        path=ONE,
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_connection,
        body=lambda ids: {"name": f"Gate {ids['mark']}"},
        shows=("connection_id",),
    ),
    Rule(method="DELETE", path=ONE, needs=WRITE, callers=DISTRICTS, prepare=add_connection),
    Rule(
        method="POST",
        path=f"{ONE}/test",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_connection,
        shows=("certificate",),
    ),
    Rule(
        method="POST",
        path=f"{ONE}/test-sign-ins",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_connection,
        shows=("/sso/test/",),
    ),
    Rule(
        method="GET",
        path=f"{ONE}/test-sign-ins/{{test_id}}",
        needs=READ,
        callers=DISTRICTS,
        prepare=add_test,
        shows=("test_id",),
    ),
    Rule(
        method="POST",
        path=f"{ONE}/identities/removals",
        needs=WRITE,
        callers=DISTRICTS,
        prepare=add_tie,
        body=lambda ids: {"sourced_id": ids["tied"]},
        shows=('"ended":1',),
    ),
    Rule(method="GET", path=CHANGE, needs=READ, callers=DISTRICTS, prepare=add_change, shows=(HASH,)),
    *(
        Rule(
            method="POST",
            path=f"{CHANGE}/{verb}",
            needs=WRITE,
            callers=DISTRICTS,
            prepare=add_change,
            body=name_change,
        )
        for verb in ("approve", "discard")
    ),
    Rule(method="POST", path=APPLICATIONS, needs=WRITE, callers=PLATFORM, body=describe_application),
    Rule(
        method="GET",
        path=APPLICATIONS,
        needs=READ,
        callers=PLATFORM,
        prepare=add_application,
        shows=("application_id",),
    ),
    Rule(
        method="GET",
        path=APPLICATION,
        needs=READ,
        callers=PLATFORM,
        prepare=add_application,
        shows=("application_id",),
    ),
    Rule(
        method="PATCH",
        path=APPLICATION,
        needs=WRITE,
        callers=PLATFORM,
        prepare=add_application,
        body=lambda ids: {"name": f"Portal {ids['mark']}"},
        shows=("application_id",),
    ),
    Rule(method="DELETE", path=APPLICATION, needs=WRITE, callers=PLATFORM, prepare=add_application),
    Rule(
        method="GET",
        path="/v1/sign-in/audit",
        needs=READ,
        callers=DISTRICTS,
        blind=True,
        prepare=add_connection,
        shows=("connection.create",),
    ),
    Rule(method="POST", path="/v1/sign-in/audit/verifications", needs=READ, callers=PLATFORM),
    Public(
        method="GET",
        path="/sso/test/{token}",
        reason="the address is what lets somebody try a connection",
        status=410,
        parameters={"token": "made-up"},
    ),
)
