"""Bad input from REST providers, row by row of the failure catalogue: what it ends with, and that nobody is removed.

Rows that have tests elsewhere: P1 to P3, P5, P7, P9, P10 in test_sandbox and the suites over all services, P6 there and
in test_oneroster_schools, P11 in test_increments, P13 in the store.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.responses import RedirectResponse, Response, StreamingResponse

from homeroom.codes import Code
from homeroom.messages import FetchAbandoned, Options
from homeroom.roster import COLLECTIONS
from provider_gateway.failures import ProviderError
from provider_gateway.providers._oneroster_pages import read_body, read_single
from provider_gateway.scope import Scope, is_current

SCOPE = Scope(Options(sync_parents=True, sync_demographics=True), date(2026, 9, 1))
SAMPLES: dict[str, dict[str, Any]] = {
    "orgs": {"sourcedId": "s1", "name": "Nörd", "type": "school"},
    "academicSessions": {
        "sourcedId": "t1", "title": "Fall", "type": "term", "startDate": "2026-08-01", "endDate": "2027-01-01",
    },
    "courses": {"sourcedId": "k1", "title": "Maths", "grades": ["05"]},
    "classes": {"sourcedId": "c1", "title": "Maths 1", "school": {"sourcedId": "s1"}},
    "users": {
        "sourcedId": "u1", "status": "active", "givenName": "Ada", "familyName": "Byrön", "role": "student",
        "orgs": [{"sourcedId": "s1"}], "metadata": {"year": 1},
    },
    "enrollments": {
        "sourcedId": "e1", "role": "student", "user": {"sourcedId": "u1"}, "class": {"sourcedId": "c1"},
    },
    "demographics": {"sourcedId": "u1", "birthDate": "2015-02-03"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.01)


@pytest.fixture
def people(provider: Any, user: Callable[..., dict[str, Any]]) -> list[Any]:
    """Five users at the provider."""
    provider.collections["users"] = [user(number) for number in range(5)]
    return list(provider.collections["users"])


def serve_users(provider: Any, response: Callable[[], Response]) -> None:
    """Answer every question for the list of users, and no other, in a way of one's own."""
    provider.answer = lambda collection, query, _rows: response() if collection == "users" and query else None


async def assert_failed(gateway: Any, *codes: Code, **settings: Any) -> None:
    """A run fails with one of some codes and leaves everything as it was."""
    before = {collection: dict(records) for collection, records in gateway.store.records.items()}
    outcome = await gateway.run(**settings)
    assert outcome.failure is not None
    assert outcome.failure.code in codes
    assert not outcome.changes or isinstance(outcome.changes[-1], FetchAbandoned)
    assert gateway.store.records == before


# ── P3, time ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_body_without_an_end(gateway: Any, provider: Any, people: list[Any]) -> None:
    """A body that never ends is given up at its deadline, or at the size that is allowed (P3)."""
    assert people
    await gateway.sync()

    async def drip() -> Any:
        for _ in range(2_000):
            yield b" " * 10_000
            await asyncio.sleep(0.001)

    serve_users(provider, lambda: StreamingResponse(drip(), media_type="application/json"))
    began = time.monotonic()
    await assert_failed(gateway, Code.PROV_TIMEOUT, Code.PROV_BAD_PAYLOAD, page_seconds=1.0, max_page_bytes=2_000_000)
    assert time.monotonic() - began < 10


# ── P4, bodies ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_truncated_at_every_byte(collection: str) -> None:
    """An answer that ends at any byte before its last is refused, list or single record (P4)."""
    row = SAMPLES[collection]
    page = json.dumps({collection: [row, row | {"sourcedId": "x2"}]}, ensure_ascii=False).encode()
    single = json.dumps({"record": row}, ensure_ascii=False).encode()
    assert len(read_body("town", collection, page, None, SCOPE).canonical) == 2
    assert len(read_single("town", collection, single, SCOPE).canonical) == 1
    for cut in range(len(page)):
        with pytest.raises(ProviderError) as caught:
            read_body("town", collection, page[:cut], None, SCOPE)
        assert caught.value.code == Code.PROV_BAD_PAYLOAD
    for cut in range(len(single)):
        with pytest.raises(ProviderError) as caught:
            read_single("town", collection, single[:cut], SCOPE)
        assert caught.value.code == Code.PROV_BAD_PAYLOAD


async def test_truncated_runs_remove_nobody(gateway: Any, provider: Any, people: list[Any]) -> None:
    """A run whose page of users is cut off, wherever that is, ends without removing or changing anybody (P4)."""
    await gateway.sync()
    body = json.dumps({"users": people}).encode()
    for cut in random.Random(4).sample(range(len(body)), 12):
        part = body[:cut]
        serve_users(provider, lambda part=part: Response(part, headers={"x-total-count": "0"}))  # type: ignore[misc]  # a default binds it
        await assert_failed(gateway, Code.PROV_BAD_PAYLOAD)


@pytest.mark.parametrize(
    "body",
    [
        b"<!doctype html><title>Sign in</title>", b'{"users":{}}', b'{"users":"none"}', b"5", b"[[]", b"[" * 100_000,
        b'{"users":[' + b'{"a":' * 100_000, b'{"error":"later"}', b'{"imsx_codeMajor":"failure"}', b"\x00\x01\x02",
    ],
    ids=lambda body: repr(body)[:24],
)  # fmt: skip
async def test_bodies_that_are_no_list(gateway: Any, provider: Any, people: list[Any], body: bytes) -> None:
    """HTML, errors, other shapes, JSON without a bottom: with status 200 and any content type, none is "empty" (P4)."""
    assert people
    await gateway.sync()
    serve_users(provider, lambda: Response(body, media_type="text/html"))
    await assert_failed(gateway, Code.PROV_BAD_PAYLOAD)


# ── P8, pages and counts ────────────────────────────────────────────────────────────────────────────────────────────


async def test_the_same_page_for_ever(gateway: Any, provider: Any, people: list[Any]) -> None:
    """A provider that serves one page whatever it is asked for ends the run, its Link header notwithstanding (P8)."""
    await gateway.sync()
    body = json.dumps({"users": people}).encode()
    link = '</users?offset=0>; rel="next"'
    serve_users(provider, lambda: Response(body, headers={"x-total-count": "1000", "link": link}))
    await assert_failed(gateway, Code.PROV_PAGINATION, page_size=5)


@pytest.mark.parametrize("count", ["-1", "1e9", "many", "", "٣", "99999999999999999999", "4.5"])
async def test_counts_that_are_none(gateway: Any, provider: Any, people: list[Any], count: str) -> None:
    """A count that is no number counts as none: everything is read, and who is missing is asked for by id (P8)."""
    provider.collections["users"] = people
    await gateway.sync()
    rows = people[:-1]

    def answer(collection: str, query: dict[str, str], _rows: list[Any]) -> Response | None:
        if collection != "users" or not query:
            return None
        start, limit = int(query["offset"]), int(query["limit"])
        return Response(
            json.dumps({"users": rows[start : start + limit]}),
            headers={"x-total-count": count.encode().decode("latin-1")},
        )

    provider.answer = answer
    outcome = await gateway.sync(page_size=2)
    assert outcome.reports["users"].removed == 0
    assert len(gateway.store.asked) == 1


# ── P12, ids ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_duplicates_never_flip_flop(gateway: Any, provider: Any, user: Any) -> None:
    """Of one id with several contents the same one wins in whatever order they come, night after night (P12)."""
    rows = [user(number % 4, familyName=f"Version {number}") for number in range(16)]
    provider.collections["users"] = rows
    first = await gateway.sync(page_size=5)
    assert [issue.code for issue in first.completed.issues] == [Code.DUP_SOURCED_ID]
    settled = dict(gateway.store.records["users"])
    for night in range(6):
        random.Random(night).shuffle(rows)
        outcome = await gateway.sync(page_size=random.Random(night).randrange(2, 9))
        assert gateway.store.records["users"] == settled, night
        report = outcome.reports["users"]
        assert report.served == report.added + report.changed + report.unchanged + report.filtered + report.quarantined


async def test_equal_duplicates(gateway: Any, provider: Any, user: Any) -> None:
    """The same record twice is one record, and the second night publishes nothing (P12)."""
    provider.collections["users"] = [user(number % 3) for number in range(6)]
    await gateway.sync(page_size=2)
    assert (await gateway.sync(page_size=2)).chunks == []
    assert len(gateway.store.ids("users")) == 3


async def test_ids_that_look_alike(gateway: Any, provider: Any, user: Any) -> None:
    """Ids that differ in case, spaces or form of letters are different ids, and stay so (P12)."""
    ids = ["U1", "u1", "u1 ", " u1", "u1\u00e9", "u1e\u0301", "\u0430", "a", "1", "01"]
    provider.collections["users"] = [user(0, sourcedId=one, givenName=f"Nr {n}") for n, one in enumerate(ids)]
    await gateway.sync()
    assert gateway.store.ids("users") == set(ids)
    provider.collections["users"].reverse()
    assert (await gateway.sync()).chunks == []


# ── P14, dates ──────────────────────────────────────────────────────────────────────────────────────────────────────

BAD_DATES = [
    "0000-00-00", "2026-02-31", "2025-02-29", "10000-01-01", "2026-13-01", "2026-1-1", "01/02/2026", "20260102",
    "tomorrow", "2026-02-31T00:00:00Z", "-2026-01-01", "2026-02-30x",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD_DATES)
async def test_bad_dates(gateway: Any, provider: Any, text: str) -> None:
    """A record with a date that does not exist keeps its last good value, and is told with id and field (P14)."""
    enrollment = SAMPLES["enrollments"]
    provider.collections["enrollments"] = [enrollment | {"beginDate": "2026-08-01"}]
    await gateway.sync()
    before = dict(gateway.store.records["enrollments"])
    provider.collections["enrollments"] = [enrollment | {"beginDate": text}]
    outcome = await gateway.sync()

    (issue,) = outcome.completed.issues
    assert (issue.code, issue.field, issue.sourced_id) == (Code.BAD_DATE, "beginDate", "e1")
    assert outcome.reports["enrollments"].quarantined == 1
    assert gateway.store.records["enrollments"] == before


async def test_end_before_begin(gateway: Any, provider: Any) -> None:
    """What ends before it begins is taken as it is, told, and never current (P14)."""
    dates = {"beginDate": "2026-09-01", "endDate": "2026-08-31"}
    provider.collections["enrollments"] = [SAMPLES["enrollments"] | dates]
    outcome = await gateway.sync()
    (issue,) = outcome.completed.issues
    assert (issue.code, issue.field, issue.sourced_id) == (Code.BAD_DATE, "endDate", "e1")
    assert (outcome.reports["enrollments"].added, outcome.reports["enrollments"].quarantined) == (1, 0)
    assert not any(is_current(date(2026, 9, 1), date(2026, 8, 31), date(2026, 8, day)) for day in range(1, 32))


@given(st.text(max_size=30) | st.dates().map(str) | st.datetimes().map(str), st.sampled_from(["birthDate", "sex"]))
def test_any_date(text: str, field: str) -> None:
    """Whatever stands where a date belongs, the record is taken or refused for it, and its neighbour is taken (P14)."""
    rows = [SAMPLES["demographics"] | {field: text}, SAMPLES["demographics"] | {"sourcedId": "u2"}]
    page = read_body("town", "demographics", json.dumps({"demographics": rows}).encode(), None, SCOPE)
    assert len(page.canonical) + len(page.refused) == 2
    assert len(page.canonical) >= 1
    assert {problem.code for problem in page.refused} <= {Code.BAD_DATE, Code.BAD_ENUM}


# ── P15, texts ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("field", "text", "code"),
    [
        ("familyName", '"' + "z" * 10_000_000 + '"', Code.FIELD_TOO_LONG),
        ("familyName", '"a\\u0000b"', Code.BAD_TEXT),
        ("familyName", '"a\\ud800b"', Code.BAD_TEXT),
        ("email", '"x@' + "y" * 3_000 + '"', Code.FIELD_TOO_LONG),
        ("username", "{" + ",".join(f'"k{n}":{n}' for n in range(100)) + "}", Code.RECORD_INVALID),
        ("metadata", "{" + ",".join(f'"k{n}":"v"' for n in range(200_000)) + "}", Code.FIELD_TOO_LONG),
        ("metadata", '{"deep":' + "[" * 400 + "]" * 400 + "}", Code.RECORD_INVALID),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_texts_that_are_refused(
    gateway: Any, provider: Any, people: list[Any], field: str, text: str, code: Code
) -> None:
    """A record with an endless, broken or bottomless value is quarantined; its neighbours and memory are not (P15)."""
    await gateway.sync()
    before = dict(gateway.store.records["users"])
    odd = json.dumps(people[0] | {field: "@"}).replace('"@"', text)
    rest = ",".join(json.dumps(one) for one in people[1:])
    body = f'{{"users":[{odd},{rest}]}}'.encode()
    empty = b'{"users":[]}'
    provider.answer = lambda collection, query, _rows: (
        Response(body if query["offset"] == "0" else empty) if collection == "users" and query else None
    )
    outcome = await gateway.sync()
    codes = {(issue.code, issue.sourced_id) for issue in outcome.completed.issues}
    if code is Code.RECORD_INVALID and field == "metadata":
        assert codes <= {(code, "u0")}, "what is deep but has a bottom may be taken"
    else:
        assert codes == {(code, "u0")}
        assert gateway.store.records["users"] == before
    assert gateway.store.ids("users") == {one["sourcedId"] for one in people}


@pytest.mark.parametrize(
    "text", ["\u202egnirts", "\u0430dmin@district.example", "🙂" * 50, "Z̷̢̛a̶l̵g̸o̴", "=cmd|' /C calc'!A0", "' OR 1=1 --"]
)
async def test_texts_that_are_kept(gateway: Any, provider: Any, user: Any, text: str) -> None:
    """Text that only looks odd is somebody's name and is kept letter by letter (P15)."""
    provider.collections["users"] = [user(1, familyName=text)]
    outcome = await gateway.sync()
    assert outcome.reports["users"].added == 1
    assert json.loads(gateway.store.records["users"]["u1"][1])["familyName"] == text


def test_many_unknown_fields() -> None:
    """A million unknown fields in one record cost that record, a bounded time and a bounded memory (P15)."""
    fields = ",".join(f'"f{number}":{number}' for number in range(1_000_000))
    good = json.dumps(SAMPLES["users"] | {"sourcedId": "u2"})
    odd = json.dumps(SAMPLES["users"])[:-1]
    body = f'{{"users":[{odd},{fields}}},{good}]}}'.encode()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    page = read_body("town", "users", body, None, SCOPE)
    assert [problem.code for problem in page.refused] == [Code.FIELD_TOO_LONG]
    assert len(page.canonical) == 1
    assert time.monotonic() - began < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(list(SAMPLES)), st.data())
def test_any_value_anywhere(collection: str, data: st.DataObject) -> None:
    """Any JSON value in any field costs at most its own record (P15)."""
    sample = SAMPLES[collection]
    field = data.draw(st.sampled_from([*sample, "unheardOf", "status", "grades", "agents", "roles", "primary"]))
    rows = [sample | {field: data.draw(values)}, sample | {"sourcedId": "good"}]
    page = read_body("town", collection, json.dumps({collection: rows}).encode(), None, SCOPE)
    assert page.received == 2
    assert len(page.canonical) + len(page.refused) + len(page.tombstones) + len(page.left_out) == 2
    assert page.canonical.sourced_id(len(page.canonical) - 1) == "good"


# ── P16, redirections ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("https://elsewhere.example/ims", Code.SSRF_BLOCKED),
        ("http://169.254.169.254/latest/meta-data", Code.SSRF_BLOCKED),
        ("//elsewhere.example/ims", Code.SSRF_BLOCKED),
        ("ftp://127.0.0.1/", Code.SSRF_BLOCKED),
        ("/elsewhere/on/the/same/server", Code.PROV_NOT_FOUND),
        ("", Code.PROV_NOT_FOUND),
    ],
)
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_redirections(
    gateway: Any, provider: Any, people: list[Any], location: str, code: Code, status: int
) -> None:
    """Redirections are never followed; one to another server or scheme is told as an attack might be (P16)."""
    assert people
    await gateway.sync()
    provider.queries.clear()
    serve_users(provider, lambda: RedirectResponse(location, status))
    await assert_failed(gateway, code)
    assert len([path for path, _ in provider.queries if path.endswith("/users")]) == 1


async def test_redirection_sends_no_secret(gateway: Any, provider: Any, serve: Any) -> None:
    """Another server gets nothing at all by a redirection, neither from a list nor from a token endpoint (P16)."""
    met: list[Any] = []

    async def other(scope: Any, receive: Any, send: Any) -> None:
        met.append(scope)
        await Response()(scope, receive, send)

    elsewhere = await serve(other)
    provider.answer = lambda *_: RedirectResponse(f"{elsewhere}/ims/oneroster/v1p1/users", 307)
    await assert_failed(gateway, Code.SSRF_BLOCKED)

    async def token(scope: Any, receive: Any, send: Any) -> None:
        await RedirectResponse(f"{elsewhere}/token", 307)(scope, receive, send)

    gateway.connection |= {"auth": "oauth2", "token_url": f"{await serve(token)}/token"}
    await assert_failed(gateway, Code.SSRF_BLOCKED)
    assert met == []


# ── P17, people ─────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_student_becomes_teacher(gateway: Any, provider: Any, user: Any) -> None:
    """A student who becomes a teacher is one person who changed, neither removed nor added (P17)."""
    provider.collections["users"] = [user(1), user(2)]
    await gateway.sync()
    provider.collections["users"][0]["role"] = "teacher"
    report = (await gateway.sync()).reports["users"]
    assert (report.added, report.changed, report.removed, report.unchanged) == (0, 1, 0, 1)
    assert json.loads(gateway.store.records["users"]["u1"][1])["roles"][0]["role"] == "teacher"


async def test_person_in_many_roles(gateway: Any, provider: Any, user: Any) -> None:
    """Roles and orgs in another order are no change; one more is one change (P17)."""
    roles = [
        {"roleType": "primary", "role": "teacher", "org": {"sourcedId": "s1"}},
        *({"roleType": "secondary", "role": role, "org": {"sourcedId": "s2"}} for role in ("parent", "teacher")),
    ]
    provider.collections["users"] = [user(1, roles=roles), user(2, orgs=[{"sourcedId": one} for one in "abc"])]
    await gateway.sync(options={"sync_parents": True})
    roles.reverse()
    provider.collections["users"][1]["orgs"][1:] = provider.collections["users"][1]["orgs"][:0:-1]
    assert (await gateway.sync(options={"sync_parents": True})).chunks == []
    roles.append({"roleType": "secondary", "role": "proctor", "org": {"sourcedId": "s3"}})
    report = (await gateway.sync(options={"sync_parents": True})).reports["users"]
    assert (report.changed, report.unchanged) == (1, 1)
