"""Single logout by SAML, both ways, and what of it is refused."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import httpx2
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from lxml import etree
from played_idp import DS, MORE, NOW, SAML, SAMLP, Key, make_ec, make_id, make_rsa, put_signature, stamp
from roster_stand_in import District, make_district
from saml_place import OURS, SamlPlace, Service, browsing, make_place, our_key, read_request, running_service

from sso.launch.sessions import Session
from sso.saml.documents import deflate

RSA_SHA256 = f"{MORE}rsa-sha256"

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="whole")
async def _run(request: pytest.FixtureRequest) -> AsyncIterator[Service]:
    async with running_service(request) as whole:
        yield whole


@pytest_asyncio.fixture(loop_scope="module")
async def service(whole: Service) -> Service:
    """An sso that nobody came to yet."""
    await whole.forget()
    return whole


@pytest_asyncio.fixture(loop_scope="module")
async def district(service: Service) -> District:
    """A district with two pupils."""
    return await make_district(service.database)


@pytest_asyncio.fixture(loop_scope="module")
async def place(service: Service, district: District) -> SamlPlace:
    """A connection with single logout, whose messages we sign."""
    return await make_place(service, district, slo_url="https://idp.test/slo?x=1", private_key=our_key())


def write_request(place: SamlPlace, **said: Any) -> bytes:
    """A LogoutRequest; None leaves out what it would say."""
    say = {
        "id": make_id(),
        "issuer": place.idp.entity_id,
        "destination": f"http://homeroom.test{place.base}/slo",
        "issued": stamp(NOW),
        "until": stamp(NOW + timedelta(minutes=5)),
        "name_id": "user-1",
        "sessions": ("session-1",),
        "version": "2.0",
    } | said
    head = {"ID": say["id"], "Version": say["version"], "IssueInstant": say["issued"], "NotOnOrAfter": say["until"]}
    head["Destination"] = say["destination"]
    kept = {name: value for name, value in head.items() if value is not None}
    root = etree.Element(f"{{{SAMLP}}}LogoutRequest", kept, {"samlp": SAMLP, "saml": SAML})
    etree.SubElement(root, f"{{{SAML}}}Issuer").text = say["issuer"]
    for name_id in [say["name_id"]] if isinstance(say["name_id"], str) else say["name_id"]:
        etree.SubElement(root, f"{{{SAML}}}NameID").text = name_id
    for index in say["sessions"]:
        etree.SubElement(root, f"{{{SAMLP}}}SessionIndex").text = index
    return etree.tostring(root)


def sign_query(place: SamlPlace, message: bytes, *, key: Key | None = None, algorithm: str = RSA_SHA256) -> str:
    """A query of the redirect binding, signed."""
    query = urlencode({"SAMLRequest": b64encode(deflate(message)), "RelayState": "r&=s", "SigAlg": algorithm})
    key = key or place.idp.key
    if isinstance(key, rsa.RSAPrivateKey):
        digest = hashes.SHA1() if "sha1" in algorithm else hashes.SHA256()  # noqa: S303 - to be refused
        signature = key.sign(query.encode(), padding.PKCS1v15(), digest)
    else:
        signature = key.sign(query.encode(), ec.ECDSA(hashes.SHA256()))
    return f"{query}&{urlencode({'Signature': b64encode(signature)})}"


async def ask(place: SamlPlace, browser: httpx2.AsyncClient, **said: Any) -> httpx2.Response:
    """Have the identity provider log somebody out."""
    return await browser.get(f"{place.base}/slo?{sign_query(place, write_request(place, **said))}")


async def test_the_portal_ends_a_session(service: Service, place: SamlPlace) -> None:
    """A signed LogoutRequest ends the session it names and no other, and is answered, signed, with its RelayState."""
    await place.sign_in(service.client)
    async with browsing(service) as other:
        await place.sign_in(other, name_id="user-2")
        answer = await ask(place, other)
        assert await place.count("session") == 1
        assert "Bo Carr" in (await other.get("/sso/session")).text
    location = answer.headers["Location"]
    assert location.startswith("https://idp.test/slo?x=1&SAMLResponse=")
    query = parse_qs(urlsplit(location).query)
    assert query["RelayState"] == ["r&=s"]
    response = read_request(location)
    assert response.tag == f"{{{SAMLP}}}LogoutResponse"
    assert response.get("Destination") == "https://idp.test/slo?x=1"
    signed, _, signature = location.partition("?x=1&")[2].partition("&Signature=")
    from base64 import b64decode
    from urllib.parse import unquote_plus

    OURS.public_key().verify(b64decode(unquote_plus(signature)), signed.encode(), padding.PKCS1v15(), hashes.SHA256())


async def test_all_sessions_of_somebody_end(service: Service, place: SamlPlace) -> None:
    """A request without SessionIndex ends every session of that person; one by POST counts as well."""
    for index in ("session-1", "session-2"):
        async with browsing(service) as browser:
            await place.sign_in(browser, session_index=index)
    assert await place.count("session") == 2
    root = etree.fromstring(write_request(place, sessions=()))
    put_signature(root, place.idp.signing())
    posted = await service.client.post(
        f"{place.base}/slo", data={"SAMLRequest": b64encode(etree.tostring(root)).decode()}
    )
    assert posted.status_code == 303
    assert await place.count("session") == 0


async def test_we_log_out_at_the_portal(service: Service, place: SamlPlace) -> None:
    """Our LogoutRequest names whom the portal knows; the browser that comes back goes where was kept, once."""
    await place.sign_in(service.client)
    row = await service.database.fetchrow("SELECT * FROM session")
    assert row is not None
    session = Session(**{name: row[name] for name in Session.__slots__})
    url = await service.app.state.saml.logout.start(session, "/oauth2/signed-out")
    assert url is not None
    assert "Signature=" in url
    request = read_request(url)
    assert request.findtext(f"{{{SAML}}}NameID") == "user-1"
    assert request.findtext(f"{{{SAMLP}}}SessionIndex") == "session-1"
    answer = answer_to(place, request.get("ID", ""))
    back = await service.client.get(f"{place.base}/slo?{answer}")
    assert (back.status_code, back.headers["Location"]) == (303, "/oauth2/signed-out")
    assert (await service.client.get(f"{place.base}/slo?{answer}")).status_code == 403
    await service.database.fetch("UPDATE upstream SET config = config - 'slo_url'")
    service.launching.upstreams._kept.clear()
    assert await service.app.state.saml.logout.start(session) is None


def answer_to(place: SamlPlace, request_id: str, *, issuer: str | None = None) -> str:
    """A LogoutResponse of the portal, unsigned, as a query."""
    text = (
        f'<samlp:LogoutResponse xmlns:samlp="{SAMLP}" xmlns:saml="{SAML}" ID="{make_id()}" Version="2.0" '
        f'IssueInstant="{stamp(NOW)}" InResponseTo="{request_id}"><saml:Issuer>{issuer or place.idp.entity_id}'
        "</saml:Issuer></samlp:LogoutResponse>"
    )
    return urlencode({"SAMLResponse": b64encode(deflate(text.encode()))})


async def test_attack_29_logout_that_is_not_the_portals(service: Service, place: SamlPlace) -> None:
    """Logout that is unsigned, wrongly signed, stale, for others or elsewhere ends nothing."""
    await place.sign_in(service.client)
    slo = f"{place.base}/slo"
    genuine = sign_query(place, write_request(place))
    message = urlencode({"SAMLRequest": b64encode(deflate(write_request(place)))})
    queries = {
        "unsigned": message,
        "algorithm only": f"{message}&{urlencode({'SigAlg': RSA_SHA256})}",
        "signature only": f"{message}&Signature=AAAA",
        "another message": genuine.replace(genuine.partition("&")[0], message),
        "another RelayState": genuine.replace("RelayState=r", "RelayState=q"),
        "without RelayState": genuine.replace("RelayState=r%26%3Ds&", ""),
        "foreign": sign_query(place, write_request(place), key=make_rsa("foreign")),
        "another kind of key": sign_query(
            place, write_request(place), key=make_ec("foreign"), algorithm=f"{MORE}ecdsa-sha256"
        ),
        "SHA-1": sign_query(place, write_request(place), algorithm=f"{DS}rsa-sha1"),
        "HMAC": sign_query(place, write_request(place), algorithm=f"{MORE}hmac-sha256"),
        "twice the message": f"{message}&{genuine}",
        "both messages": f"{genuine}&SAMLResponse=x",
        "an encoding": f"{genuine}&SAMLEncoding=urn:x",
        "a bomb": f"SAMLRequest={urlencode({'': b64encode(deflate(b'x' * 50_000_000))})[1:]}",
        "not compressed": urlencode({"SAMLRequest": b64encode(write_request(place))}),
        "cut off": urlencode({"SAMLRequest": b64encode(deflate(write_request(place))[:-20])}),
        "no base64": "SAMLRequest=%21",
        "nothing": "",
        "odd bytes": "SAMLRequest=%ff%fe",
        "a response": sign_query(place, place.respond()),
    }
    said: dict[str, dict[str, Any]] = {
        "expired": {"until": stamp(NOW - timedelta(seconds=90))},
        "until whenever": {"until": "never"},
        "old": {"issued": stamp(NOW - timedelta(minutes=11)), "until": None},
        "in the future": {"issued": stamp(NOW + timedelta(minutes=2))},
        "not issued": {"issued": None},
        "another issuer": {"issuer": "https://other.test"},
        "another destination": {"destination": place.idp.acs_url},
        "no destination": {"destination": None},
        "two people": {"name_id": ("user-1", "user-1")},
        "nobody": {"name_id": ()},
        "blank": {"name_id": " "},
        "version": {"version": "1.1"},
        "no id": {"id": None},
    }
    queries |= {name: sign_query(place, write_request(place, **one)) for name, one in said.items()}
    for name, query in queries.items():
        page = await service.client.get(f"{slo}?{query}")
        assert page.status_code in (400, 403), name
        assert "support-id" in page.text
    for root in (etree.fromstring(write_request(place)), etree.fromstring(write_request(place))):
        put_signature(root, place.idp.signing())
        root[-1].text = "session-2"
        form = {"SAMLRequest": b64encode(etree.tostring(root)).decode()}
        assert (await service.client.post(slo, data=form)).status_code == 403
    assert await place.count("session") == 1


async def test_attack_29_logout_of_others_and_again(service: Service, district: District, place: SamlPlace) -> None:
    """A request ends only whom it names, at its own connection, once; answers to nothing are refused."""
    await place.sign_in(service.client)
    for said in ({"name_id": "user"}, {"name_id": "USER-1"}, {"name_id": "user-11"}, {"sessions": ("session-2",)}):
        assert (await ask(place, service.client, **said)).status_code == 303
        assert await place.count("session") == 1
    other = await make_place(service, district, slo_url="https://idp.test/slo")
    assert (await ask(other, service.client)).status_code == 303
    assert await place.count("session") == 1
    request = sign_query(place, write_request(place))
    assert (await service.client.get(f"{place.base}/slo?{request}")).status_code == 303
    assert await place.count("session") == 0
    await place.sign_in(service.client)
    again = await service.client.get(f"{place.base}/slo?{request}")
    assert (await place.read_launch(again))["code"] == "SIGNIN_REPLAYED"
    assert await place.count("session") == 1
    unknown = await service.client.get(f"{place.base}/slo?{answer_to(place, '_unknown')}")
    assert (await place.read_launch(unknown))["code"] == "SIGNIN_FLOW_LOST"
    foreign = await service.client.get(f"{place.base}/slo?{answer_to(place, '_x', issuer='https://other.test')}")
    assert foreign.status_code == 403
    assert (await service.client.get(f"/sso/saml/{uuid4()}/slo?{request}")).status_code == 404
