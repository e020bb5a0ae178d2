"""The district at Clever: tokens, objects, paging, limits and oddities."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import urljoin

import httpx2
import pytest

from sandbox_district import District, Sandbox, clever_snapshot, faults, running_sandbox

Get = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=60)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


@pytest.fixture(name="get")
def make_get(sandbox: Sandbox, http: httpx2.AsyncClient) -> Get:
    async def get(path: str, version: str = "v3.1", **params: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {sandbox.clever_token}"}
        return await http.get(f"{sandbox.url}/clever/{version}/{path}", params=params, headers=headers)

    return get


def list_ids(answer: httpx2.Response) -> list[str]:
    """The ids of a page."""
    return [row["data"]["id"] for row in answer.json()["data"]]


def find_link(answer: httpx2.Response, rel: str) -> str | None:
    """A link of a page."""
    return next((link["uri"] for link in answer.json()["links"] if link["rel"] == rel), None)


async def read_all(sandbox: Sandbox, http: httpx2.AsyncClient, path: str) -> list[dict[str, Any]]:
    """Every object of a list, by its links."""
    found, url = [], f"{sandbox.url}/clever/v3.1/{path}"
    while url:
        answer = await http.get(url, headers={"Authorization": f"Bearer {sandbox.clever_token}"})
        assert answer.status_code == 200
        found += [row["data"] for row in answer.json()["data"]]
        link = find_link(answer, "next")
        url = urljoin(url, link) if link else ""
    return found


def strip(found: dict[str, Any]) -> dict[str, Any]:
    """An object without when it was made and changed."""
    return {name: value for name, value in found.items() if name not in {"created", "last_modified"}}


@pytest.mark.parametrize("kind", ["schools", "terms", "courses", "sections", "users"])
async def test_lists_are_the_snapshot(sandbox: Sandbox, http: httpx2.AsyncClient, kind: str) -> None:
    """Followed by its links, a list is exactly what a client should see, in ascending order of ids."""
    found = await read_all(sandbox, http, f"{kind}?limit=7")
    expected = clever_snapshot(sandbox.district)[kind]
    assert [strip(each) for each in found] == list(expected.values())
    assert list(expected) == sorted(expected)
    assert len(expected) > 3


async def test_pages(get: Get) -> None:
    """Links are relative to the origin; next is there only if there is more, prev only if something is before."""
    first = await get("users", limit=10, role="student")
    assert find_link(first, "self") == "/clever/v3.1/users?limit=10&role=student"
    link = find_link(first, "next")
    assert link
    assert link.startswith("/clever/v3.1/users?")
    assert find_link(first, "prev") is None
    second = await get("users", limit=10, role="student", starting_after=list_ids(first)[-1])
    back = await get("users", limit=10, role="student", ending_before=list_ids(second)[0])
    assert list_ids(back) == list_ids(first)
    last = await get("users", limit=5, role="student", ending_before="last")
    assert find_link(last, "next") is None
    assert find_link(last, "prev")
    whole = list_ids(await get("users", limit=60, role="student"))
    assert len(whole) == 60
    assert whole[-5:] == list_ids(last)
    assert find_link(await get("users", limit=60, role="student"), "next") is None


async def test_limits_of_pages(get: Get) -> None:
    """100 rows come unless asked otherwise, 10,000 are the most, and nonsense is refused."""
    assert len(list_ids(await get("users"))) == 100
    assert (await get("users", limit=10_000)).status_code == 200
    assert (await get("users", limit=10_001)).status_code == 413
    for params in ({"limit": 0}, {"limit": "many"}, {"role": "wizard"}, {"starting_after": "me"}):
        assert (await get("users", **params)).status_code == 400


async def test_count(get: Get) -> None:
    """The number of all rows is told when it is asked for, and only then."""
    assert (await get("users", role="student", limit=1, count="true")).json()["count"] == 60
    assert "count" not in (await get("users", limit=1)).json()


async def test_what_comes_later_is_last(sandbox: Sandbox, get: Get) -> None:
    """Who comes while a list is read is at its end, and who has gone meanwhile still serves as a cursor."""
    first = await get("users", limit=40, role="student")
    cursor = list_ids(first)[-1]
    before = set(list_ids(await get("users", limit=1000)))
    sourced_id = (await get(f"users/{cursor}")).json()["data"]["roles"]["student"]["sis_id"]
    sandbox.district.advance_day()
    sandbox.district.change(lambda: sandbox.district.collections["users"].pop(sourced_id, None))
    rest = list_ids(await get("users", limit=1000, role="student", starting_after=cursor))
    new = [key for key in rest if key not in before]
    assert new
    assert rest[-len(new) :] == new
    assert (await get(f"users/{cursor}")).status_code == 404


async def test_districts(sandbox: Sandbox, get: Get) -> None:
    """The district tells the state of its sync, and while it is paused nothing new is taken up."""
    (district,) = [row["data"] for row in (await get("districts")).json()["data"]]
    assert (district["id"], district["state"]) == (sandbox.clever_district_id, "running")
    assert district["last_sync"]
    async with httpx2.AsyncClient() as client:
        order = {"state": "paused", "pause_start": "2026-09-14T00:00:00.000Z"}
        assert (await client.post(f"{sandbox.url}/sandbox/clever", json=order)).status_code == 204
        assert (await client.post(f"{sandbox.url}/sandbox/clever", json={"state": "tired"})).status_code == 400
    before = list_ids(await get("users", limit=1000))
    sandbox.district.advance_day()
    assert list_ids(await get("users", limit=1000)) == before
    paused = (await get(f"districts/{sandbox.clever_district_id}")).json()["data"]
    assert (paused["state"], paused["last_sync"]) == ("paused", district["last_sync"])
    async with httpx2.AsyncClient() as client:
        await client.post(f"{sandbox.url}/sandbox/clever", json={"state": "running"})
    assert list_ids(await get("users", limit=1000)) != before


async def test_tokens(sandbox: Sandbox, http: httpx2.AsyncClient, get: Get) -> None:
    """The application's credentials list the district's token; after a rotation only the new one is good."""
    credentials = (sandbox.clever_client_id, sandbox.clever_client_secret)
    asked = {"owner_type": "district"}
    listed = (await http.get(sandbox.clever_token_url, params=asked, auth=credentials)).json()["data"]
    assert [row["access_token"] for row in listed] == [sandbox.clever_token]
    assert listed[0]["owner"] == {"type": "district", "id": sandbox.clever_district_id}
    other = await http.get(sandbox.clever_token_url, params=asked | {"district": "0" * 24}, auth=credentials)
    assert other.json()["data"] == []
    wrong = await http.get(sandbox.clever_token_url, params=asked, auth=(sandbox.clever_client_id, "guess"))
    assert wrong.status_code == 401
    old = {"Authorization": f"Bearer {sandbox.clever_token}"}
    sandbox.clever.rotate_token()
    assert (await http.get(f"{sandbox.clever_url}/schools", headers=old)).status_code == 401
    assert (await get("schools")).status_code == 200
    assert (await http.get(f"{sandbox.clever_url}/schools")).status_code == 401


async def test_rate_limit(sandbox: Sandbox, get: Get, http: httpx2.AsyncClient) -> None:
    """Every answer tells what is left of the bearer's minute, also a refusal; beyond the limit comes 429."""
    sandbox.clever.rate_limit = 10**6
    answer = await get("schools")
    assert {f"x-ratelimit-{name}" for name in ("bucket", "limit", "remaining", "reset")} <= set(answer.headers)
    assert "x-ratelimit-reset" in (await http.get(f"{sandbox.clever_url}/schools")).headers
    assert sandbox.clever_token not in answer.headers["x-ratelimit-bucket"]
    sandbox.clever.rate_limit = 1
    answers = [await get("schools") for _ in range(4)]  # of which two are in the same minute
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.headers["x-ratelimit-remaining"] == "0"
    assert refused.json()["message"]


async def test_versions_differ(get: Get) -> None:
    """3.1 adds fields; 3.0 lacks them and writes dates of birth the old way."""
    new = (await get("users", role="student", limit=1)).json()["data"][0]["data"]
    old = (await get("users", version="v3.0", role="student", limit=1)).json()["data"][0]["data"]
    added = {"frl_status", "iep_status", "section_504_status", "gifted_status", "home_language", "home_language_code"}
    assert set(new["roles"]["student"]) - set(old["roles"]["student"]) == added
    assert set(new) - set(old) == {"lms_status"}
    year, month, day = new["roles"]["student"]["dob"].split("-")
    assert old["roles"]["student"]["dob"] == f"{month}/{day}/{year}"


async def test_students_are_as_in_the_books(sandbox: Sandbox, get: Get) -> None:
    """Students carry the district's demographics in Clever's words, and "" where nothing is shared."""
    district = sandbox.district
    district.change(lambda: district.collections["demographics"].pop("stu-100003"))
    listed = [row["data"] for row in (await get("users", role="student", limit=1000)).json()["data"]]
    students = {each["roles"]["student"]["sis_id"]: each for each in listed}
    for key, each in students.items():
        student, user = each["roles"]["student"], district.collections["users"][key]
        assert each["name"]["last"] == user["familyName"]
        assert ("middle" in each["name"]) == ("middleName" in user)
        assert each.get("email") == user.get("email")
        assert student["ext"] == user["metadata"]
        if record := district.collections["demographics"].get(key):
            metadata = record["metadata"]
            support = next(metadata[name] for name in metadata if name[:3] in {"iep", "spe"} or name == "CL.sped")
            assert student["iep_status"] == {"true": "Y", "false": "N"}[support]
            assert student["dob"] == record["birthDate"]
            assert student["gender"] == {"male": "M", "female": "F"}[record["sex"]]
            assert (student["race"] == "Unknown") == (student["hispanic_ethnicity"] == "Y")
            assert (student["race"] == "Caucasian") == record["white"]
    blank = students["stu-100003"]["roles"]["student"]
    for name in ("dob", "gender", "race", "hispanic_ethnicity", "ell_status", "frl_status", "iep_status"):
        assert blank[name] == ""
    assert {each["roles"]["student"]["grade"] for each in listed} == {"Kindergarten", *map(str, range(1, 13))}


async def test_sections_are_as_in_the_books(sandbox: Sandbox, get: Get) -> None:
    """A section lists its active students and all teachers; without a primary one teacher is null, teachers stay."""
    district = sandbox.district
    section = next(iter(district.active("classes")))
    enrolled = [each for each in district.active("enrollments").values() if each["class"]["sourcedId"] == section]
    (primary,) = [each for each in enrolled if each["primary"]]
    pupils = [each for each in enrolled if each["role"] == "student"]
    snapshot = clever_snapshot(district)
    key, before = next(item for item in snapshot["sections"].items() if item[1]["sis_id"] == section)
    assert before["teacher"] in before["teachers"]
    assert len(before["students"]) == len(pupils)

    def edit() -> None:
        district.amend("enrollments", primary["sourcedId"], primary=False)
        district.amend("enrollments", pupils[0]["sourcedId"], status="tobedeleted")

    district.change(edit)
    after = (await get(f"sections/{key}")).json()["data"]
    assert after["teacher"] is None
    assert after["teachers"] == before["teachers"]
    assert len(after["students"]) == len(pupils) - 1
    assert after["course"] in snapshot["courses"]
    assert after["term_id"] in snapshot["terms"]


async def test_accounts_of_staff_merge(sandbox: Sandbox, get: Get) -> None:
    """People of the staff with one address are one user in every role's list; a parent with that address is not."""
    district = sandbox.district
    teacher = next(key for key, user in district.active("users").items() if user["role"] == "teacher")
    aide = next(key for key, user in district.active("users").items() if user["role"] == "aide" and "/" not in key)
    parent = next(key for key, user in district.active("users").items() if user["role"] == "parent")
    email = district.collections["users"][teacher]["email"]

    def edit() -> None:
        for key in (aide, parent):
            district.amend("users", key, email=email.upper())

    district.change(edit)
    by_role = {role: list_ids(await get("users", role=role, limit=1000)) for role in ("teacher", "staff", "contact")}
    (both,) = set(by_role["teacher"]) & set(by_role["staff"])
    user = (await get(f"users/{both}")).json()["data"]
    assert user["roles"]["teacher"]["sis_id"] == teacher
    assert user["roles"]["staff"]["staff_id"] == aide
    assert both not in by_role["contact"]
    assert len(by_role["contact"]) == sum(
        u["role"] in {"parent", "guardian"} for u in district.active("users").values()
    )


async def test_contacts(sandbox: Sandbox, get: Get) -> None:
    """Contacts name their students, and may have their whole name in the last name."""
    rows = [row["data"] for row in (await get("users", role="contact", limit=1000)).json()["data"]]
    students = set(list_ids(await get("users", role="student", limit=1000)))
    relationships = [each for row in rows for each in row["roles"]["contact"]["student_relationships"]]
    assert relationships
    assert {each["student"] for each in relationships} <= students
    sandbox.faults.replace(faults.FullNames())
    joined = [row["data"] for row in (await get("users", role="contact", limit=1000)).json()["data"]]
    assert [row["name"]["last"] for row in joined] == [f"{r['name']['first']} {r['name']['last']}" for r in rows]


async def test_tombstones_are_absent(sandbox: Sandbox, get: Get) -> None:
    """What is a tombstone in the books is not at Clever at all."""
    users = {
        user["roles"]["student"]["sis_id"]: key
        for key, user in clever_snapshot(sandbox.district)["users"].items()
        if "student" in user["roles"]
    }
    sandbox.district.change(lambda: sandbox.district.amend("users", "stu-100007", status="tobedeleted"))
    assert (await get(f"users/{users['stu-100007']}")).status_code == 404
    assert users["stu-100007"] not in list_ids(await get("users", limit=1000))


async def test_relations(sandbox: Sandbox, get: Get) -> None:
    """What belongs to an object is listed below it, one thing as one, and unknown paths are 404."""
    snapshot = clever_snapshot(sandbox.district)
    key, section = next(item for item in snapshot["sections"].items() if item[1]["students"])
    assert set(list_ids(await get(f"sections/{key}/users", limit=1000))) == {*section["students"], *section["teachers"]}
    pupils = await get(f"sections/{key}/users", role="student", limit=1000)
    assert set(list_ids(pupils)) == set(section["students"])
    assert (await get(f"sections/{key}/school")).json()["data"]["id"] == section["school"]
    assert (await get(f"sections/{key}/district")).json()["data"]["state"] == "running"
    assert key in list_ids(await get(f"schools/{section['school']}/sections", limit=1000))
    assert key in list_ids(await get(f"users/{section['students'][0]}/sections"))
    assert set(section["teachers"]) <= set(list_ids(await get(f"users/{section['students'][0]}/myteachers")))
    assert set(section["students"]) <= set(
        list_ids(await get(f"users/{section['teachers'][0]}/mystudents", limit=1000))
    )
    assert list_ids(await get("resources")) == []
    for path in ("wands", f"sections/{key}/wands", "users/0123456789abcdef01234567", "schools/x/users"):
        assert (await get(path)).status_code == 404


async def test_secondary_schools(sandbox: Sandbox, get: Get) -> None:
    """A school's users include those of whom it is not the primary one, unless only primary ones are asked for."""
    shared = next(
        user
        for user in clever_snapshot(sandbox.district)["users"].values()
        if len(user["roles"].get("student", {}).get("schools", ())) > 1
    )
    first, second = shared["roles"]["student"]["schools"]
    everybody = list_ids(await get(f"schools/{second}/users", limit=1000))
    own = list_ids(await get(f"schools/{second}/users", limit=1000, primary="true"))
    assert shared["id"] in everybody
    assert shared["id"] not in own
    assert list_ids(await get(f"users/{shared['id']}/schools", primary="true")) == [first]


async def test_faults_strike_at_this_face(sandbox: Sandbox, get: Get, http: httpx2.AsyncClient) -> None:
    """Faults strike by the face's own paths, whatever the version, with Clever's errors; "/" is OneRoster's alone."""
    sandbox.faults.replace(faults.ServerError(status=503), faults.Unauthorized(path="/users"))
    assert (await get("users")).status_code == 200
    sandbox.faults.replace(faults.RateLimit(path="/clever/users", retry_after=3))
    limited = await get("users", version="v3.0")
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "3")
    assert limited.json()["message"]
    assert "x-ratelimit-limit" in limited.headers
    assert (await get("schools")).status_code == 200
    sandbox.faults.replace(faults.HtmlLogin(path="/clever"))
    assert "<form>" in (await get("schools")).text
    credentials = (sandbox.clever_client_id, sandbox.clever_client_secret)
    listed = await http.get(sandbox.clever_token_url, params={"owner_type": "district"}, auth=credentials)
    assert listed.status_code == 200
    sandbox.faults.replace(faults.ShortList(path="/clever/users", rows=3), faults.NotFoundSingles(path="/clever"))
    short = await get("users")
    assert len(list_ids(short)) == 3
    assert (await get(f"users/{list_ids(short)[0]}")).status_code == 404
    sandbox.faults.replace(faults.BadRecords(path="/clever/users", rows=60), faults.Shift(path="/clever/users"))
    odd = [row["data"] for row in (await get("users", limit=1000)).json()["data"]]
    assert any(isinstance(row, str) for row in odd)
    assert any("id" not in row for row in odd)
    sandbox.faults.replace(faults.Truncate(path="/clever"))
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        (await get("users")).json()


async def test_tokens_can_rotate_in_the_middle(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A token that is good for some requests only is replaced, and the list then has the new one."""
    sandbox.faults.replace(faults.TokenExpiry(path="/clever", requests=2))
    old = {"Authorization": f"Bearer {sandbox.clever_token}"}
    statuses = [(await http.get(f"{sandbox.clever_url}/schools", headers=old)).status_code for _ in range(3)]
    assert statuses == [200, 200, 401]
    new = {"Authorization": f"Bearer {sandbox.clever_token}"}
    assert (await http.get(f"{sandbox.clever_url}/schools", headers=new)).status_code == 200


def test_ids_are_the_same_every_time() -> None:
    """The same district has the same ids, whatever has been asked before, and who comes back has the old one."""
    one, two = District(students=40), District(students=40)
    before = clever_snapshot(one)
    for district in (one, two):
        for _ in range(3):
            district.advance_day()
    assert clever_snapshot(one) == clever_snapshot(two)
    key = next(each["id"] for each in before["users"].values() if "teacher" in each["roles"])
    sourced_id = before["users"][key]["roles"]["teacher"]["sis_id"]
    record = one.collections["users"][sourced_id]
    one.change(lambda: one.collections["users"].pop(sourced_id))
    assert key not in clever_snapshot(one)["users"]
    one.change(lambda: one.put("users", record))
    assert key in clever_snapshot(one)["users"]


async def test_the_sandbox_describes_its_faces(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """The description has what a client of Clever, of ClassLink's proxy and of Google Classroom needs."""
    described = (await http.get(f"{sandbox.url}/sandbox")).json()
    face = described["clever"]
    assert sandbox.clever_url in face["base_url"]
    assert (face["district_id"], face["district_token"]) == (sandbox.clever_district_id, sandbox.clever_token)
    assert (face["client_id"], face["client_secret"]) == (sandbox.clever_client_id, sandbox.clever_client_secret)
    assert described["classlink"] == {
        "proxy_url": sandbox.classlink_proxy_url,
        "partner_key": sandbox.partner_key,
        "application_id": sandbox.classlink_application_id,
    }
    google = described["google_classroom"]
    assert (google["base_url"], google["token_url"]) == (sandbox.google_url, sandbox.google_token_url)
    assert (google["domain"], google["admin_email"]) == (sandbox.google_domain, sandbox.google_admin)
    assert google["service_account_key"] == sandbox.google_key
