"""A district through Clever: lists, tokens, pauses, and what must hold whatever Clever answers."""

import asyncio
import logging
from base64 import b64encode
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
from starlette.responses import HTMLResponse, JSONResponse, Response
from toy_clever import ALL, MARKS, TinyClever, connect_clever, make_person, make_student

from homeroom.codes import Code
from homeroom.messages import Inquiry
from provider_gateway.inquiries import answer_inquiry
from provider_gateway.providers.contract import Proof
from provider_gateway.scope import Scope


@pytest.fixture
async def clever(serve: Any, gateway: Any) -> TinyClever:
    """A small district at Clever that the gateway is connected to."""
    return await connect_clever(serve, gateway)


async def test_a_district_is_read_whole(gateway: Any, clever: TinyClever) -> None:
    """Every collection comes, each proves itself, and the events are noted to go on from."""
    outcome = await gateway.sync(options=ALL)
    ids = {collection: sorted(records) for collection, records in gateway.store.records.items()}
    assert ids["orgs"] == ["d1", "s1", "s2"]
    assert ids["users"] == ["u0", "u1", "u2", "u3", "u4", "u5", "v1", "v2", "v3", "w1", "w2"]
    assert ids["demographics"] == ["u0", "u1", "u2", "u3", "u4", "u5"]
    assert ids["enrollments"] == [
        "c1_u0_student", "c1_u1_student", "c1_u2_student", "c1_v1_teacher", "c1_v2_teacher",
        "c2_u3_student", "c2_v2_teacher",
    ]  # fmt: skip
    assert all(report.consistent for report in outcome.reports.values())
    assert outcome.completed.issues == ()
    assert outcome.completed.bookmark.state == {"event": clever.events[-1]["id"]}
    assert outcome.completed.bookmark.increments
    served = outcome.reports["users"]
    assert served.served == served.added == 11
    again = await gateway.sync(options=ALL)
    assert {report.unchanged for report in again.reports.values()} == {3, 1, 2, 11, 7, 6}
    assert again.chunks == []


async def test_parents_are_tied_to_students_both_ways(gateway: Any, clever: TinyClever) -> None:
    """Contacts name their students, students their contacts, and contacts are at their students' schools (B2)."""
    clever.page = 2
    await gateway.sync(options=ALL)
    users = {key: msgspec.json.decode(body) for key, (_, body) in gateway.store.records["users"].items()}
    assert users["u0"]["agentSourcedIds"] == ["w1", "w2"]
    assert users["w1"]["agentSourcedIds"] == ["u0", "u3"]
    assert [(role["role"], role["orgSourcedId"]) for role in users["w1"]["roles"]] == [
        ("parent", "s1"),
        ("parent", "s2"),
    ]


async def test_what_is_switched_off_is_not_asked_for(gateway: Any, clever: TinyClever) -> None:
    """Neither contacts nor classes are requested where they are not wanted, and no marks leave the gateway."""
    outcome = await gateway.sync(options={"sync_classes": False})
    assert "contact" not in {query.get("role") for _, query in clever.asked}
    assert clever.paths() & {"/v3.0/sections", "/v3.0/courses"} == set()
    assert set(gateway.store.records["users"]) & {"w1", "w2"} == set()
    assert b"gender" not in b"".join(bytes(chunk.records) for chunk in outcome.chunks)


async def test_each_list_is_read_once_by_its_links(gateway: Any, clever: TinyClever) -> None:
    """Pages follow the next link, each once, and enrollments come from the sections that classes were read from."""
    clever.page = 2
    await gateway.sync(options=MARKS)
    asked = [(path, query.get("role"), query.get("starting_after")) for path, query in clever.asked]
    assert len(asked) == len(set(asked))
    assert ("/v3.0/users", "student", "u3") in asked


async def test_pages_that_are_too_large_are_halved(gateway: Any, clever: TinyClever) -> None:
    """A limit Clever refuses with 413 is halved until it is taken."""
    clever.most = 3
    await gateway.sync()
    assert len(gateway.store.records["users"]) == 9
    limits = [int(query["limit"]) for _, query in clever.asked if "limit" in query]
    assert max(limits) == 500
    assert min(limit for limit in limits if limit > 1) in {2, 3}


async def test_pages_are_as_long_as_they_may_be(gateway: Any, clever: TinyClever) -> None:
    """Pages are as long as they are set to be, of sections a thousand at most, each with all its people."""
    await gateway.sync(page_size=10_000)
    limits = {path: int(query["limit"]) for path, query in clever.asked if "limit" in query}
    assert limits["/v3.0/users"] == 10_000
    assert limits["/v3.0/sections"] == 1_000


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        ("https://elsewhere.example/v3.0/users?starting_after=u1", Code.PROV_PAGINATION),
        ("//elsewhere.example/v3.0/users", Code.PROV_PAGINATION),
        ("/v9/users?starting_after=u1", Code.PROV_PAGINATION),
        ("/v3.0/../admin", Code.PROV_PAGINATION),
        ("/v3.0/users?starting_after=u0&role=student", Code.PROV_PAGINATION),
    ],
)
async def test_links_that_lead_astray_are_not_followed(gateway: Any, clever: TinyClever, uri: str, code: Code) -> None:
    """A next link to another host, out of the API or in a circle ends the run; nobody is removed."""

    def answer(path: str, query: dict[str, str]) -> Response | None:
        if path == "/v3.0/users" and query.get("role") == "student":
            return JSONResponse({"data": [], "links": [{"rel": "next", "uri": uri}]})
        return None

    clever.answer = answer
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is code


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"data": [',
        b'{"error": "x"}',
        b"<html></html>",
        b'{"data": {}, "links": []}',
        b"\xff\xfe",
        b"null",
    ],
)
async def test_an_answer_that_is_none_removes_nobody(gateway: Any, clever: TinyClever, body: bytes) -> None:
    """Cut, empty, HTML or an error with status 200: the run fails and the roster stays."""
    clever.answer = lambda path, _: Response(body) if path == "/v3.0/users" else None
    outcome = await gateway.run(retries=0)
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_BAD_PAYLOAD


@pytest.mark.parametrize("state", ["paused", "error", "pending"])
async def test_a_halted_district_is_not_an_empty_one(gateway: Any, clever: TinyClever, state: str) -> None:
    """Paused, in error or pending: the run ends with PROV_PAUSED before anything is read."""
    clever.objects["districts"]["d1"]["state"] = state
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_PAUSED
    assert clever.paths() == {"/v3.0/districts/d1"}


async def test_a_district_that_is_not_there(gateway: Any, clever: TinyClever) -> None:
    """A district the token does not see is PROV_NOT_FOUND; an HTML page as error body does no harm."""
    clever.objects["districts"].clear()
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_NOT_FOUND


async def test_the_token_is_looked_up_by_the_applications_credentials(gateway: Any, clever: TinyClever) -> None:
    """Without a district token, it is asked for with Basic credentials, for this district, once."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden"}
    await gateway.sync()
    basic = f"Basic {b64encode(b'app:hidden').decode()}"
    assert clever.lookups == [(basic, {"owner_type": "district", "district": "d1"})]


async def test_a_token_that_was_changed_is_read_again(gateway: Any, clever: TinyClever) -> None:
    """A 401 has the token looked up once more, and the run goes on with the new one."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden", "district_token": "old"}
    await gateway.sync()
    assert len(clever.lookups) == 1


async def test_a_token_that_did_not_change_is_not_tried_again(gateway: Any, clever: TinyClever) -> None:
    """Refused credentials are tried once, and once more only with another token."""
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "hidden", "district_token": "token-1"}
    clever.answer = lambda *_: HTMLResponse("<html>401</html>", 401)
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.AUTH_INVALID
    assert (len(clever.asked), len(clever.lookups)) == (1, 1)
    gateway.connection = {name: value for name, value in gateway.connection.items() if name != "client_id"}
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert (outcome.failure.code, len(clever.lookups)) == (Code.AUTH_INVALID, 1)


@pytest.mark.usefixtures("clever")
async def test_a_district_without_a_token_has_not_authorized_us(gateway: Any) -> None:
    """Where Clever lists no token of the district, the application is off for it."""
    gateway.connection |= {"client_id": "app", "district_id": "d2"}
    gateway.secrets = {"client_secret": "hidden"}
    outcome = await gateway.run()
    assert outcome.failure is not None
    assert outcome.failure.code is Code.PROV_APP_DISABLED


async def test_a_person_with_several_roles_is_counted_once(gateway: Any, clever: TinyClever) -> None:
    """Clever lists a person under each role; it is read once, and nothing is called a duplicate (P17)."""
    clever.put("users", make_person("v9", student={"school": "s1", "gender": "X"}, teacher={}, contact={}))
    outcome = await gateway.sync(options=ALL)
    assert outcome.completed.issues == ()
    assert outcome.reports["users"].served == outcome.reports["users"].added == 12
    assert "v9" in gateway.store.records["demographics"]


async def test_people_of_a_damaged_section_stay(gateway: Any, clever: TinyClever) -> None:
    """Where the people of a section can't be read, its enrollments are asked for, not removed."""
    await gateway.sync()
    clever.objects["sections"]["c2"]["students"] = [{"id": "u3"}]
    outcome = await gateway.sync()
    assert not outcome.reports["enrollments"].consistent
    assert "c2_u3_student" in gateway.store.records["enrollments"]
    assert outcome.reports["enrollments"].unconfirmed == 2


async def test_an_unreadable_row_lets_nobody_go(gateway: Any, clever: TinyClever) -> None:
    """A user without an id may be anybody: who is missing is asked for by id, and only a 404 means gone."""
    await gateway.sync(options=ALL)
    gone = clever.objects["users"].pop("u4")
    row = clever.objects["users"].pop("u5")

    def answer(path: str, query: dict[str, str]) -> Response | None:
        if path == "/v3.0/users" and query.get("role") == "student":
            rows = [one for one in clever.objects["users"].values() if "student" in one["roles"]]
            return JSONResponse({"data": [{"data": one} for one in [*rows, row | {"id": ""}]], "links": []})
        return JSONResponse({"data": row}) if path == "/v3.0/users/u5" else None

    clever.answer = answer
    outcome = await gateway.sync(options=ALL)
    assert outcome.reports["users"].quarantined == 1
    assert "u5" in gateway.store.records["users"]
    assert gone["id"] not in gateway.store.records["users"]


async def test_wrong_marks_are_told_by_field(gateway: Any, clever: TinyClever) -> None:
    """A mark that is none of Clever's words is an issue of the run with field and id, not with its value (B5)."""
    clever.put("users", make_student("u7", ell_status="Maybe", dob="2012-01-02"))
    outcome = await gateway.sync(options=MARKS)
    (issue,) = outcome.completed.issues
    assert (issue.collection, issue.sourced_id, issue.code, issue.field) == (
        "demographics", "u7", Code.BAD_ENUM, "ell_status",
    )  # fmt: skip
    assert b"Maybe" not in msgspec.json.encode(outcome.completed)


async def test_a_verification_looks_at_first_pages(gateway: Any, clever: TinyClever) -> None:
    """A first look tells of the district and each collection, and reads no list to its end."""
    clever.page = 1
    inquiry = Inquiry(
        inquiry_id="i", kind="verify", **{
            name: value for name, value in msgspec.structs.asdict(gateway.job(options=ALL)).items()
            if name in Inquiry.__struct_fields__
        },
    )  # fmt: skip
    answer = await answer_inquiry(gateway.workshop(None), inquiry)
    assert answer.code is None
    assert "state running" in answer.findings[0].detail
    assert {one.check for one in answer.findings} > {"orgs", "users", "enrollments", "demographics"}
    assert ("/v3.0/users", "u2") not in [(path, query.get("starting_after")) for path, query in clever.asked]


@pytest.mark.usefixtures("clever")
async def test_single_records_are_what_the_lists_say(gateway: Any) -> None:
    """A record asked for by its id is that of the list, to the byte; one that is not there is None."""
    await gateway.sync(options=ALL)
    job = gateway.job(options=ALL)
    scope = Scope(job.options, job.today)
    async with gateway.workshop(None).open_source(job, mode="full", bookmark=None, began=job.deadline) as source:
        for collection, records in gateway.store.records.items():
            assert source.proof(collection) is Proof.WHOLE
            for sourced_id, (_, body) in records.items():
                page = await source.find(collection, sourced_id, scope)
                assert msgspec.json.decode(page.canonical.encoded(0)) == msgspec.json.decode(body)
            absent = await source.find(collection, "none_none_student", scope)
            assert absent is None


async def test_a_run_that_is_given_up_leaves_nothing_behind(gateway: Any, clever: TinyClever, tmp_path: Any) -> None:
    """Closing a list in the middle ends its requests, and the workspace is gone with the run."""
    clever.page = 1
    job = gateway.job(options=ALL)
    workshop = gateway.workshop(None, workspace=str(tmp_path))
    async with workshop.open_source(job, mode="full", bookmark=None, began=job.deadline) as source:
        async with aclosing(source.pages("users", Scope(job.options, job.today))) as pages:
            await anext(pages)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
    assert [task for task in asyncio.all_tasks() if "_page" in repr(task.get_coro())] == []


async def test_secrets_and_people_are_in_no_log(
    gateway: Any, clever: TinyClever, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither tokens nor names, addresses or marks are written anywhere, also when things go wrong."""
    caplog.set_level(logging.DEBUG)
    gateway.connection["client_id"] = "app"
    gateway.secrets = {"client_secret": "canary-secret", "district_token": "canary-token"}
    clever.put("users", make_student("u7", ell_status="canary-mark") | {"email": "canary-mail", "name": 5})
    failing = iter([HTMLResponse("canary-body", 500)])
    clever.answer = lambda path, _: next(failing, None) if path == "/v3.0/schools" else None
    outcome = await gateway.sync(options=ALL)
    written = caplog.text + "".join(capsys.readouterr()) + repr(outcome.facts)
    assert "canary" not in written
