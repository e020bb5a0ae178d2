"""Who somebody is by the attributes of their assertion, as the connection names them."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from played_idp import NOW, Idp

from sso.connections.upstreams import SamlConfig, Upstream
from sso.launch.refusals import Refused
from sso.saml.arriving import make_arrival
from sso.saml.names import TRANSIENT
from sso.saml.profile import Assertion


def describe(**config: Any) -> Upstream:
    """An upstream without a database."""
    idp = Idp()
    said = SamlConfig(
        entity_id=idp.entity_id, sso_url="https://idp.test/sso", certificates=(idp.certificate,), **config
    )
    return Upstream(uuid4(), "saml", shared=False, name="x", product_id=None, config=said, enabled=True, revision=1)


def assertion(**said: Any) -> Assertion:
    """A verified assertion."""
    base: dict[str, Any] = {
        "id": "_a",
        "in_response_to": None,
        "name_id": "user-1",
        "name_id_format": "",
        "session_index": None,
        "authn_instant": NOW,
        "not_on_or_after": NOW,
        "attributes": {},
        "signed": "assertion",
        "algorithm": "",
        "sha1": False,
        "encrypted": False,
    }
    return Assertion(**(base | said))


@pytest.mark.parametrize(
    ("config", "said", "why"),
    [
        ({}, {"name_id_format": TRANSIENT}, "transient"),
        ({"subject_attribute": "id"}, {}, "user id is missing"),
        ({"subject_attribute": "id"}, {"attributes": {"id": ("",)}}, "user id is missing"),
        ({"subject_attribute": "id"}, {"attributes": {"id": ("a", "b")}}, "several"),
        ({"subject_attribute": "id"}, {"attributes": {"id": ("a\u200b",)}}, "plain"),
        ({"tenant_attribute": "t"}, {}, "tenant is missing"),
        ({"person_attribute": "p"}, {"attributes": {"p": ("a", "a")}}, "several"),
    ],
)
def test_nobody_is_made_up_from_attributes(config: dict[str, Any], said: dict[str, Any], why: str) -> None:
    """An id that is transient, missing, blank or ambiguous is nobody's."""
    with pytest.raises(Refused) as refused:
        make_arrival(describe(**config), assertion(**said))
    assert why in refused.value.why


def test_an_attribute_may_stand_in_for_a_transient_name() -> None:
    """A transient NameID does no harm where an attribute holds the portal's user id; what is not sent is unknown."""
    upstream = describe(subject_attribute="id", person_attribute="sourced")
    arrival = make_arrival(upstream, assertion(name_id_format=TRANSIENT, attributes={"id": ("7",)}))
    assert (arrival.subject, arrival.person_key) == ("7", None)
