"""Signing in by SAML, through the service: what begins with us, what begins at the portal, and what is refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import uuid4

import pytest
import pytest_asyncio
from played_idp import BEARER, DS, NOW, SAML, SAMLP, Encrypting, certify, make_rsa, stamp
from roster_stand_in import District, make_district
from saml_place import OURS, SamlPlace, Service, browsing, make_place, our_key, read_request, running_service

from sso.launch.flows import Flow, Intent
from sso.launch.refusals import Refused
from sso.saml.saml_api import _check_fresh

EVIL_PLACES = (
    "https://evil.test/",
    "//evil.test",
    "https:evil.test",
    "\\\\evil.test",
    "/\\evil.test",
    "javascript:alert(1)",
    "http://homeroom.test@evil.test/",
    "/sso/open/../../evil",
    "data:text/html,x",
)

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
    """A connection as most are: what nobody asked for is refused."""
    return await make_place(service, district)


@pytest_asyncio.fixture(loop_scope="module")
async def open_place(service: Service, district: District) -> SamlPlace:
    """A connection that takes what the portal begins."""
    return await make_place(service, district, idp_initiated=True)


# ── what works ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_somebody_signs_in(service: Service, place: SamlPlace) -> None:
    """A tile sends a well-made request out, and the answer signs the right person in, with a trace and no leftovers."""
    request = await place.begin(service.client)
    assert request.tag == f"{{{SAMLP}}}AuthnRequest"
    assert request.findtext(f"{{{SAML}}}Issuer") == place.idp.audience
    assert request.get("AssertionConsumerServiceURL") == place.idp.acs_url
    assert request.get("Destination") == "https://idp.test/sso"
    assert request.get("ForceAuthn") is None
    posted = await place.post(service.client, place.respond(in_response_to=request.get("ID")), "whatever")
    assert posted.status_code == 303
    assert await place.count("session") == 0
    page = await service.client.get(posted.headers["Location"])
    assert page.status_code == 200
    assert "Ada Berg" in page.text
    session = await service.database.fetchrow("SELECT * FROM session")
    assert session is not None
    assert session["upstream"]["name_id"] == "user-1"
    assert session["upstream"]["session_index"] == "session-1"
    launch = await service.database.fetchrow("SELECT * FROM launch")
    assert launch is not None
    assert (launch["state"], launch["sourced_id"]) == ("completed", "user-1")
    assert await place.count("flow") == await place.count("saml_arrival") == 0


async def test_two_tabs_sign_in(service: Service, place: SamlPlace) -> None:
    """Two tiles clicked at once in one browser both come to an end."""
    first, second = await place.begin(service.client), await place.begin(service.client)
    for request in (second, first):
        posted = await place.post(service.client, place.respond(in_response_to=request.get("ID")))
        page = await service.client.get(posted.headers["Location"])
        assert page.status_code == 200


async def test_attack_48_the_next_pupil_replaces_the_one_before(service: Service, place: SamlPlace) -> None:
    """Whoever signs in ends the session the browser had, though the portal's post does not bring its cookie along."""
    await place.sign_in(service.client)
    before = dict(service.client.cookies)
    request = await place.begin(service.client)
    lax = service.client.cookies["homeroom-session"]
    del service.client.cookies["homeroom-session"]  # as a browser does that is sent here from another site
    posted = await place.post(service.client, place.respond(in_response_to=request.get("ID"), name_id="user-2"))
    service.client.cookies.set("homeroom-session", lax, domain="homeroom.test")
    page = await service.client.get(posted.headers["Location"])
    assert "Bo Carr" in page.text
    rows = await service.database.fetch("SELECT sourced_id FROM session")
    assert [row["sourced_id"] for row in rows] == ["user-2"]
    assert service.client.cookies["homeroom-session"] != before["homeroom-session"]


async def test_the_portal_begins(service: Service, open_place: SamlPlace) -> None:
    """Where a connection allows it, an answer nobody asked for signs in, and the person is shown."""
    posted = await open_place.post(service.client, open_place.respond())
    page = await service.client.get(posted.headers["Location"])
    assert "Ada Berg" in page.text


async def test_encrypted_assertions_arrive(service: Service, district: District) -> None:
    """An assertion encrypted to the connection's own key signs in; one that is not is refused where it must be."""
    place = await make_place(service, district, private_key=our_key(), encrypted=True, idp_initiated=True)
    posted = await place.post(service.client, place.respond(encrypting=Encrypting(OURS.public_key())))
    assert posted.status_code == 303
    plain = await place.post(service.client, place.respond())
    assert plain.status_code == 403


async def test_attributes_name_the_person(service: Service, district: District) -> None:
    """Portal's user id, tenant and roster key come from the attributes the connection names, exactly as sent."""
    place = await make_place(
        service,
        district,
        kind="classlink-saml",
        subject_attribute="ID",
        person_attribute="OR:userSourcedId",
        tenant_attribute="Tenant ID",
    )
    said = (("ID", ("007",)), ("OR:userSourcedId", ("user-2",)), ("Tenant ID", ("42",)), ("Full Name", ("B",)))
    page = await place.sign_in(service.client, name_id="someone@school.test", attributes=said)
    assert "Bo Carr" in page.text
    identity = await service.database.fetchrow("SELECT subject, tenant FROM identity")
    assert identity is not None
    assert tuple(identity) == ("007", "42")


async def test_attack_05_an_exception_for_sha1_ends(service: Service, district: District) -> None:
    """SHA-1 signs somebody in until the exception of the connection is over, and the trace says so."""
    for days, status in ((1, 303), (-1, 403)):
        place = await make_place(service, district, idp_initiated=True, allow_sha1_until=NOW + timedelta(days=days))
        weak = place.idp.signing(method=f"{DS}rsa-sha1", digest=f"{DS}sha1")
        page = await place.post(service.client, place.idp.respond(place.story(), signing=weak))
        assert page.status_code == status
    steps = await service.database.fetch("SELECT steps FROM launch ORDER BY began_at LIMIT 1")
    assert "SHA-1" in str(steps[0]["steps"])


async def test_a_repeated_step_shows_who_is_signed_in(service: Service, place: SamlPlace) -> None:
    """Who goes back to a step that was taken is not signed in a second time, but sees who is."""
    page = await place.sign_in(service.client)
    again = await service.client.get(str(page.url))
    assert (again.status_code, again.headers["Location"]) == (303, "/sso/session")
    async with browsing(service) as other:
        assert (await other.get(str(page.url))).status_code == 403


async def test_the_portal_says_no(service: Service, place: SamlPlace) -> None:
    """An answer that says why somebody may not come in is told as such, in the trace of the launch it answers."""
    request = await place.begin(service.client)
    status = (
        '<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Responder">'
        '<samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:AuthnFailed"/></samlp:StatusCode></samlp:Status>'
    )
    story = place.story(in_response_to=request.get("ID"), status_xml=status)
    text = story.write()
    text = text.replace(story.write_assertion(), "")
    page = await place.post(service.client, text.encode())
    launch = await place.read_launch(page)
    assert (page.status_code, launch["code"]) == (403, "SIGNIN_DENIED")
    assert [step["what"] for step in launch["steps"]] == ["sent to the portal", "refused"]
    assert "AuthnFailed" in launch["steps"][-1]["why"]


async def test_a_refusal_tells_where_it_was(service: Service, place: SamlPlace) -> None:
    """A refused answer ends the launch it belongs to; the page offers to begin anew and echoes nothing."""
    request = await place.begin(service.client)
    document = place.respond(in_response_to=request.get("ID"), audience="https://other.test", name_id="secret-name")
    page = await place.post(service.client, document, "relay-secret")
    launch = await place.read_launch(page)
    assert (launch["state"], launch["code"]) == ("refused", "SIGNIN_ASSERTION_INVALID")
    assert launch["steps"][-1]["why"] == "the audience is another"
    assert f"/sso/launch/{place.upstream_id}" in page.text
    assert "secret" not in page.text + str(launch)
    assert await place.count("session") == await place.count("identity") == 0


async def test_metadata_is_served(service: Service, district: District) -> None:
    """Our metadata names our addresses and our certificate, and nobody gets it for what is no SAML upstream."""
    place = await make_place(service, district, private_key=our_key(), encryption_certificate=certify(OURS, ends=NOW))
    found = await service.client.get(f"{place.base}/metadata")
    assert found.headers["Content-Type"] == "application/samlmetadata+xml"
    for text in (
        place.idp.audience,
        place.idp.acs_url,
        f"{place.base}/slo",
        'use="encryption"',
        'WantAssertionsSigned="true"',
    ):
        assert text in found.text
    assert (await service.client.get(f"/sso/saml/{uuid4()}/metadata")).status_code == 404
    assert (await service.client.get("/sso/saml/x/metadata")).status_code == 400


async def test_a_fresh_sign_in_is_asked_for_and_held_to(service: Service, place: SamlPlace) -> None:
    """Where a new sign-in is wanted the request says so, and one that is older is refused even if that was cut out."""
    launching = service.launching
    upstream = await launching.upstreams.find(place.upstream_id)
    assert upstream is not None
    trace = launching.launches.begin("link")
    url = await launching.protocols["saml"].start(upstream, Intent("link", fresh=True), trace, "b" * 40)
    assert read_request(url).get("ForceAuthn") == "true"
    flow = Flow(trace.id, trace.support_id, upstream.id, Intent("link", fresh=True), began_at=NOW)
    _check_fresh(flow, NOW - timedelta(seconds=60))
    with pytest.raises(Refused):
        _check_fresh(flow, NOW - timedelta(seconds=120))


# ── attacks ───────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_attack_13_large_and_odd_forms(service: Service, place: SamlPlace) -> None:
    """A body that is too large, no form, doubled, or no base64 is refused before anything is decoded."""
    acs = f"{place.base}/acs"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for content, headers, status in [
        (b"SAMLResponse=" + b"A" * 300_000, form, 413),
        (b"SAMLResponse=A&SAMLResponse=B", form, 400),
        (b"RelayState=x", form, 400),
        (b"", form, 400),
        (b"\xff=\xff", form, 400),
        (b"&".join(b"a%d=1" % n for n in range(20)), form, 400),
        (b'{"SAMLResponse":"A"}', {"Content-Type": "application/json"}, 415),
        (b"SAMLResponse=%21%21", form, 403),
    ]:
        page = await service.client.post(acs, content=content, headers=headers)
        assert page.status_code == status, content[:40]
        assert "support-id" in page.text
    assert (await service.client.get(acs)).status_code == 405


async def test_attack_21_answers_to_other_requests(service: Service, district: District, place: SamlPlace) -> None:
    """An answer to no request, to another browser's, to another connection's or to a used one signs nobody in."""
    other = await make_place(service, district)
    refused = [await place.post(service.client, place.respond(in_response_to="_unknown"))]
    async with browsing(service) as stranger:
        request = await place.begin(stranger)
        refused.append(await place.post(service.client, place.respond(in_response_to=request.get("ID"))))
    request = await other.begin(service.client)
    refused.append(await place.post(service.client, place.respond(in_response_to=request.get("ID"))))
    request = await place.begin(service.client)
    posted = await place.post(service.client, place.respond(in_response_to=request.get("ID")))
    assert posted.status_code == 303
    refused.append(await place.post(service.client, place.respond(in_response_to=request.get("ID"))))
    for page in refused:
        assert (await place.read_launch(page))["code"] == "SIGNIN_FLOW_LOST"
    unasked = await place.post(service.client, place.respond())
    assert (await place.read_launch(unasked))["steps"][-1]["why"].startswith("nobody asked")
    assert await place.count("session") == 0


async def test_attack_22_an_assertion_counts_once(service: Service, open_place: SamlPlace) -> None:
    """Of the same assertion presented many times at once, from anywhere, within the skew as well, one counts."""
    document = open_place.respond(confirmed_not_on_or_after=stamp(NOW - timedelta(seconds=60)), not_before=None)
    async with browsing(service) as other:
        answers = await asyncio.gather(
            *(open_place.post(browser, document) for browser in (service.client, other) for _ in range(3))
        )
    assert sorted(answer.status_code for answer in answers) == [303, 403, 403, 403, 403, 403]
    again = await open_place.post(service.client, document)
    assert (await open_place.read_launch(again))["code"] == "SIGNIN_REPLAYED"
    kept = await service.database.fetchval("SELECT extract(epoch FROM min(expires_at) - now()) FROM presented")
    assert kept > 90


async def test_attack_25_across_tenants(service: Service, district: District, open_place: SamlPlace) -> None:
    """What is for one connection counts at no other, and RelayState opens nothing the district has no license for."""
    stranger = await make_district(service.database, "South District")
    other = await make_place(service, stranger, idp_initiated=True)
    moved = await other.post(service.client, open_place.respond())
    assert (await other.read_launch(moved))["code"] == "SIGNIN_ASSERTION_INVALID"
    posted = await open_place.post(service.client, open_place.respond(), str(stranger.product_id))
    page = await service.client.get(posted.headers["Location"])
    assert (await open_place.read_launch(page))["code"] == "SIGNIN_UNLICENSED"
    unknown = await open_place.post(service.client, open_place.respond(), str(uuid4()))
    assert (await open_place.read_launch(unknown))["code"] == "SIGNIN_PRODUCT_OFF"
    posted = await open_place.post(service.client, open_place.respond(), str(district.product_id))
    kept = await service.database.fetchval("SELECT arrival ->> 'product_id' FROM saml_arrival")
    assert (posted.status_code, kept) == (303, str(district.product_id))


async def test_attack_26_relay_state_is_no_address(service: Service, open_place: SamlPlace) -> None:
    """RelayState with an address in it changes nothing: the browser stays here."""
    for relay_state in EVIL_PLACES:
        posted = await open_place.post(service.client, open_place.respond(), relay_state)
        assert posted.headers["Location"].startswith(f"{open_place.base}/landed?token=")
        page = await service.client.get(posted.headers["Location"])
        assert page.status_code == 200
        assert "evil" not in page.text


async def test_attack_27_what_is_turned_off(service: Service, district: District) -> None:
    """A connection that is disabled, deleted or without a valid certificate lets nobody in, however it begins."""
    expired = certify(make_rsa("idp"), ends=NOW - timedelta(seconds=1))
    begun_later = certify(make_rsa("idp"), begins=NOW + timedelta(seconds=1))
    for config, code in [
        ({"certificates": [expired]}, "SIGNIN_ASSERTION_INVALID"),
        ({"certificates": [begun_later]}, "SIGNIN_ASSERTION_INVALID"),
        ({"certificates": ["none"]}, "SIGNIN_ASSERTION_INVALID"),
        ({"enabled": False}, "SIGNIN_CONNECTION_OFF"),
    ]:
        place = await make_place(service, district, idp_initiated=True, **config)
        for asked in (True, False):
            request = (await place.begin(service.client)).get("ID") if asked else None
            page = await place.post(service.client, place.respond(in_response_to=request))
            page = await service.client.get(page.headers["Location"]) if page.status_code == 303 else page
            assert (await place.read_launch(page))["code"] == code
    place = await make_place(service, district, idp_initiated=True)
    await service.database.fetch("UPDATE upstream SET enabled = false WHERE id = $1", place.upstream_id)
    page = await place.post(service.client, place.respond())
    assert (await place.read_launch(page))["code"] == "SIGNIN_CONNECTION_OFF"
    assert (await service.client.get(f"/sso/launch/{place.upstream_id}")).status_code == 403
    place = await make_place(service, district, idp_initiated=True)
    await service.database.fetch("UPDATE upstream SET deleted_at = now() WHERE id = $1", place.upstream_id)
    assert (await place.post(service.client, place.respond())).status_code == 404
    place = await make_place(service, district, idp_initiated=True)
    await service.database.fetch(
        "UPDATE upstream SET config = config || '{\"certificates\": []}' WHERE id = $1", place.upstream_id
    )
    page = await place.post(service.client, place.respond())
    assert "no usable certificate" in (await place.read_launch(page))["steps"][-1]["why"]
    assert await place.count("session") == 0


async def test_attack_30_somebody_elses_assertion(service: Service, district: District, place: SamlPlace) -> None:
    """An attacker's own assertion posted by a victim's browser is refused; where it is allowed, it links nothing."""
    await place.sign_in(service.client, name_id="user-1")
    page = await place.post(service.client, place.respond(name_id="user-2"))
    assert page.status_code == 403
    assert "Ada Berg" in (await service.client.get("/sso/session")).text
    allowed = await make_place(service, district, idp_initiated=True)
    posted = await allowed.post(service.client, allowed.respond(name_id="user-2"))
    shown = await service.client.get(posted.headers["Location"])
    assert "Bo Carr" in shown.text
    assert "Ada Berg" not in shown.text
    ties = await service.database.fetch(
        "SELECT identity.subject, person_name.sourced_id FROM identity JOIN person_name USING (person_id)"
    )
    assert {tuple(row) for row in ties} == {("user-1", "user-1"), ("user-2", "user-2")}
    assert await place.count("session") == 1


async def test_attack_23_not_for_the_browser(service: Service, open_place: SamlPlace) -> None:
    """What the pure checks refuse is refused by the service as well: no session, a page, a support id."""
    for said in ({"method": BEARER.replace("bearer", "sender-vouches")}, {"name_id": "\u200b"}, {"version": "1.1"}):
        page = await open_place.post(service.client, open_place.respond(**said))
        assert page.status_code == 403
        assert (await open_place.read_launch(page))["code"] == "SIGNIN_ASSERTION_INVALID"
    assert await open_place.count("session") == 0
