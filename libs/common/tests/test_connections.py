"""homeroom.connections."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from homeroom.connections import CONNECTIONS, KNOWN_SIS, UPLOADED

KEY_FILE = json.dumps({"client_email": "sync@project.test", "private_key": "PEM"})
FULL: dict[str, list[dict[str, Any]]] = {
    "oneroster": [
        {"endpoint_url": "https://x.test", "auth": "oauth1", "client_id": "c", "client_secret": "s"},
        {
            "endpoint_url": "https://x.test",
            "auth": "oauth2",
            "client_id": "c",
            "client_secret": "s",
            "token_url": "https://x.test/token",
        },
    ],
    "classlink": [
        {"endpoint_url": "https://x.test", "client_id": "c", "client_secret": "s"},
        {
            "endpoint_url": "https://x.test",
            "auth": "oauth2",
            "client_id": "c",
            "client_secret": "s",
            "token_url": "https://x.test/token",
        },
        {"auth": "proxy", "application_id": "a%2Fb", "partner_key": "k"},
    ],
    "clever": [
        {"district_id": "d", "district_token": "t"},
        {"district_id": "d", "client_id": "c", "client_secret": "s"},
    ],
    "oneroster-csv": [{}],
    "google-classroom": [{"domain": "x.test", "admin_email": "it@x.test", "service_account_key": KEY_FILE}],
}
"""Each kind's ways in, each with nothing more than it needs."""
WAYS = [(kind, way) for kind, ways in FULL.items() for way in ways]

SECRETS = {
    "oneroster": {"client_secret"},
    "classlink": {"client_secret", "partner_key"},
    "clever": {"district_token", "client_secret"},
    "oneroster-csv": set(),
    "google-classroom": {"service_account_key"},
}
ADDRESSES = {
    "oneroster": {"endpoint_url", "token_url"},
    "classlink": {"endpoint_url", "token_url", "proxy_url"},
    "clever": {"base_url", "token_url"},
    "oneroster-csv": set(),
    "google-classroom": {"base_url", "token_url"},
}


def test_every_kind_is_known() -> None:
    """The tables of these tests leave no kind out, and what is fed by uploads is one of them."""
    assert CONNECTIONS.keys() == FULL.keys() == SECRETS.keys() == ADDRESSES.keys()
    assert CONNECTIONS.keys() > UPLOADED
    assert len(set(KNOWN_SIS)) == len(KNOWN_SIS)


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_what_is_secret_and_what_is_an_address(kind: str) -> None:
    """Every secret and every address of a kind is known as such, also those that may be left out."""
    model = CONNECTIONS[kind]

    assert set(model.secret_fields()) == SECRETS[kind]
    assert set(model.address_fields()) == ADDRESSES[kind]
    assert model.free <= model.model_fields.keys() - SECRETS[kind] - ADDRESSES[kind]


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_every_way_in(kind: str, way: dict[str, Any]) -> None:
    """What was entered is either shown or secret; what is shown and the secrets make the same connection again."""
    model = CONNECTIONS[kind]
    connection = model.model_validate(way)
    shown, secrets = connection.shown(), connection.secrets()

    assert shown.keys().isdisjoint(SECRETS[kind])
    assert {**shown, **secrets}.items() >= way.items()
    assert secrets.keys() == way.keys() & SECRETS[kind]
    assert model.model_validate(shown | secrets) == connection
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_nothing_needed_can_be_left_out(kind: str, way: dict[str, Any]) -> None:
    """Without any one of the fields a way in needs, it is refused and the field is named."""
    for name in way.keys() - {"auth"}:
        with pytest.raises(ValidationError, match=name):
            CONNECTIONS[kind].model_validate({field: value for field, value in way.items() if field != name})


@pytest.mark.parametrize(("kind", "way"), WAYS)
def test_secrets_are_not_printed(kind: str, way: dict[str, Any]) -> None:
    """Neither the connection as text nor what is said of a wrong one holds a secret."""
    canary = "canary-77aa"
    filled = {name: value.replace('"PEM"', f'"{canary}"') for name, value in way.items()}
    filled |= {name: canary for name in way.keys() & SECRETS[kind] if kind != "google-classroom"}
    connection = CONNECTIONS[kind].model_validate(filled)
    with pytest.raises(ValidationError) as refused:
        CONNECTIONS[kind].model_validate(filled | {"surprise": canary})

    assert canary not in repr(connection) + str(connection) + str(connection.shown())
    assert canary not in str(refused.value)


@pytest.mark.parametrize(
    "value",
    ["", "a\0b", "a\nb", "x" * 201, 5, None, ["x"]],
    ids=["empty", "nul", "lines", "long", "int", "none", "list"],
)
def test_lines_are_lines(value: object) -> None:
    """A text on one line is not empty, not long, has no control characters and is a text."""
    with pytest.raises(ValidationError, match="district_id"):
        CONNECTIONS["clever"].model_validate({"district_id": value, "district_token": "t"})


@pytest.mark.parametrize(
    "key", ["", "x", "[]", "{}", "null", '{"client_email": "a"}', '{"client_email": "", "private_key": "p"}']
)
def test_key_files_are_whole(key: str) -> None:
    """A service account's key is the whole JSON file."""
    with pytest.raises(ValidationError, match="service_account_key"):
        CONNECTIONS["google-classroom"].model_validate(FULL["google-classroom"][0] | {"service_account_key": key})


@pytest.mark.parametrize(
    ("kind", "change", "binds"),
    [
        ("oneroster", {}, False),
        ("oneroster", {"signature_method": "HMAC-SHA1"}, False),
        ("oneroster", {"endpoint_url": "https://elsewhere.test"}, True),
        ("oneroster", {"client_id": "other"}, True),
        ("oneroster", {"token_url": "https://elsewhere.test"}, True),
        ("classlink", {"signature_method": "HMAC-SHA1"}, False),
        ("classlink", {"proxy_url": "https://elsewhere.test"}, True),
        ("classlink", {"auth": "proxy"}, True),
        ("clever", {"base_url": "https://elsewhere.test"}, True),
        ("clever", {"district_id": "other"}, True),
        ("google-classroom", {"admin_email": "other@x.test"}, True),
    ],
)
def test_what_binds_secrets(kind: str, change: dict[str, Any], binds: bool) -> None:
    """A secret is only ever sent where it was entered for: whatever leads elsewhere asks for it again."""
    model = CONNECTIONS[kind]
    before = model.model_validate(FULL[kind][0]).shown()
    without = {name: value for name, value in before.items() if name not in change}

    assert model.binds(before, before | change) is binds
    assert model.binds(before | change, before) is binds
    assert model.binds(before, without) is (binds and without != before)


@pytest.mark.parametrize("kind", CONNECTIONS)
def test_forms_can_be_made(kind: str) -> None:
    """Every field has a title people understand, and secrets are never to be shown."""
    schema = CONNECTIONS[kind].model_json_schema()["properties"]
    for name, field in schema.items():
        assert field["title"]
        parts = [field, *field.get("anyOf", ())]
        assert any(part.get("writeOnly") for part in parts) is (name in SECRETS[kind])
