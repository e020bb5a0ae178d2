"""The district behind ClassLink's proxy: applications, bearers, ids that stay escaped, revisions."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote, unquote

import httpx2
import pytest

from sandbox_district import ClassLinkOrder, District, Sandbox, faults, running_sandbox

Get = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=60)) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


@pytest.fixture(name="list_applications")
def make_list(sandbox: Sandbox, http: httpx2.AsyncClient) -> Get:
    async def list_applications(path: str = "", key: str | None = None, **params: Any) -> httpx2.Response:
        headers = {"Authorization": f"Bearer {key or sandbox.partner_key}"}
        return await http.get(f"{sandbox.classlink_proxy_url}/applications{path}", params=params, headers=headers)

    return list_applications


@pytest.fixture(name="get")
def make_get(sandbox: Sandbox, http: httpx2.AsyncClient) -> Get:
    async def get(path: str, application: str | None = None, **params: Any) -> httpx2.Response:
        url = f"{sandbox.classlink_proxy_url}/{application or sandbox.classlink_application_id}/ims/oneroster/v1p1"
        headers = {"Authorization": f"Bearer {sandbox.classlink.bearer}"}
        return await http.get(f"{url}/{path}", params=params, headers=headers)

    return get


async def test_applications(sandbox: Sandbox, list_applications: Get) -> None:
    """The partner's key lists a row for each district and application, one of which is this district's."""
    answer = (await list_applications()).json()
    rows = answer["applications"]
    assert answer["status"] == 1
    assert len(rows) == len({row["oneroster_application_id"] for row in rows}) == 4
    assert all(row["oneroster_application_id"].endswith("%3D") for row in rows)
    (mine,) = [row for row in rows if row["oneroster_application_id"] == sandbox.classlink_application_id]
    assert (mine["enabled"], mine["tenant_status"], mine["bearer"]) == ("true", "Active", sandbox.classlink.bearer)
    assert isinstance(mine["tenant_id"], int)
    assert "x-total-count" not in (await list_applications()).headers


async def test_pages_of_applications(list_applications: Get) -> None:
    """The list of applications is cut by limit and offset, and is empty beyond its end."""
    rows = (await list_applications(limit=10_000)).json()["applications"]
    assert (await list_applications(limit=1, offset=2)).json()["applications"] == rows[2:3]
    assert (await list_applications(limit=2, offset=4)).json()["applications"] == []
    assert (await list_applications(key="guess")).status_code == 401


async def test_direct_credentials(sandbox: Sandbox, list_applications: Get) -> None:
    """The application's server row has the credentials and the root of the district's own Roster Server."""
    answer = (await list_applications(f"/{sandbox.classlink_application_id}/server")).json()
    server = {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret, "endpoint_url": sandbox.url}
    assert answer["server"] == server
    assert (await list_applications("/bm9ib2R5%3D/server")).status_code == 404


async def test_data_is_the_books(sandbox: Sandbox, get: Get) -> None:
    """The proxy serves the same records as the district's OneRoster 1.1, counted in ClassLink's headers."""
    for collection, records in sandbox.district.collections.items():
        answer = await get(collection, limit=10_000)
        rows = answer.json()[collection]
        assert {row["sourcedId"] for row in rows} == set(records)
        assert answer.headers["x-count"] == answer.headers["x-total-count"] == str(len(records))
        assert "link" not in answer.headers
    page = await get("users", limit=7, offset=3)
    assert page.headers["x-count"] == "7"
    assert int(page.headers["x-total-count"]) > 7


async def test_users_have_both_shapes(sandbox: Sandbox, get: Get) -> None:
    """Users carry 1.1's role and orgs beside 1.2's roles, their flag is a word, and other records stay 1.1's."""
    for user in (await get("users", limit=10_000)).json()["users"]:
        book = sandbox.district.collections["users"][user["sourcedId"]]
        assert user["enabledUser"] == str(book["enabledUser"]).lower()
        assert (user["role"], user["orgs"]) == (book["role"], book["orgs"])
        assert {(role["role"], role["org"]["sourcedId"]) for role in user["roles"]} == {
            (book["role"], org["sourcedId"]) for org in book["orgs"]
        }
        assert [role["roleType"] for role in user["roles"]].count("primary") == 1
    enrollment = (await get("enrollments", limit=1)).json()["enrollments"][0]
    assert isinstance(enrollment["primary"], bool)
    teachers = (await get("users", filter="role='teacher' AND enabledUser='true'", limit=10_000)).json()["users"]
    assert {user["role"] for user in teachers} == {"teacher"}


async def test_the_id_belongs_in_the_path_as_it_is(sandbox: Sandbox, get: Get) -> None:
    """An application id that was decoded, or escaped once more, is not found."""
    escaped = sandbox.classlink_application_id
    assert (await get("orgs", escaped)).status_code == 200
    for wrong in (unquote(escaped), quote(escaped, safe=""), escaped.lower(), escaped.replace("%3D", "%3d")):
        assert (await get("orgs", wrong)).status_code == 404


async def test_single_records_have_escaped_ids(get: Get) -> None:
    """A sourcedId with a slash and an accent is found in its escaped form."""
    answer = await get(f"users/{quote('aide/ü 3', safe='')}")
    assert answer.json()["user"]["roles"][0]["role"] == "aide"
    assert answer.headers["x-perm-rev"]
    assert (await get("users/nobody")).status_code == 404
    assert (await get("wands")).status_code == 404


async def test_older_path(sandbox: Sandbox, http: httpx2.AsyncClient, list_applications: Get) -> None:
    """The proxy's other path takes the application's plain number."""
    rows = (await list_applications()).json()["applications"]
    (mine,) = [row for row in rows if row["oneroster_application_id"] == sandbox.classlink_application_id]
    url = f"{sandbox.classlink_proxy_url}/proxy/v1p0/{mine['application_id']}/ims/oneroster/v1p1/orgs"
    answer = await http.get(url, headers={"Authorization": f"Bearer {mine['bearer']}"})
    assert len(answer.json()["orgs"]) == 6


async def test_bearers(sandbox: Sandbox, http: httpx2.AsyncClient, list_applications: Get, get: Get) -> None:
    """A bearer is good for its own application and until it is replaced; the list then has the new one."""
    rows = (await list_applications()).json()["applications"]
    url = f"{sandbox.classlink_proxy_url}/{{}}/ims/oneroster/v1p1/orgs"
    mine = {"Authorization": f"Bearer {sandbox.classlink.bearer}"}
    other = next(row for row in rows if row["oneroster_application_id"] != sandbox.classlink_application_id)
    theirs = {"Authorization": f"Bearer {other['bearer']}"}
    assert (await http.get(url.format(other["oneroster_application_id"]), headers=mine)).status_code == 401
    assert (await http.get(url.format(sandbox.classlink_application_id), headers=theirs)).status_code == 401
    assert (await http.get(url.format(other["oneroster_application_id"]), headers=theirs)).status_code == 403
    await http.post(f"{sandbox.url}/sandbox/classlink", json={"rotate_bearer": True})
    assert (await http.get(url.format(sandbox.classlink_application_id), headers=mine)).status_code == 401
    assert sandbox.classlink.bearer in str((await list_applications()).json())
    assert (await get("orgs")).status_code == 200
    sandbox.faults.replace(faults.TokenExpiry(path="/classlink", requests=2))
    assert [(await get("orgs")).status_code for _ in range(2)] == [200, 401]


async def test_disabled_application(sandbox: Sandbox, list_applications: Get, get: Get) -> None:
    """An application the district has switched off says so in the list, and reads nothing."""
    sandbox.classlink.obey(ClassLinkOrder(enabled=False))
    rows = (await list_applications()).json()["applications"]
    (mine,) = [row for row in rows if row["oneroster_application_id"] == sandbox.classlink_application_id]
    assert mine["enabled"] == "false"
    assert (await get("orgs")).status_code == 403
    sandbox.classlink.obey(ClassLinkOrder(enabled=True))
    assert (await get("orgs")).status_code == 200


async def test_revisions(sandbox: Sandbox, get: Get) -> None:
    """The revision stays while nothing changes, and is another after a day, an order, and a fault between pages."""
    seen = [(await get("users", limit=5, offset=offset)).headers["x-perm-rev"] for offset in (0, 5, 10)]
    assert len(set(seen)) == 1
    sandbox.district.advance_day()
    seen.append((await get("users")).headers["x-perm-rev"])
    sandbox.classlink.obey(ClassLinkOrder(new_revision=True))
    seen.append((await get("users")).headers["x-perm-rev"])
    assert len(set(seen)) == 3
    sandbox.faults.replace(faults.NewRevision())
    first, second, third = [(await get("users", limit=5, offset=offset)).headers["x-perm-rev"] for offset in (0, 5, 10)]
    assert first == seen[-1] != second == third


async def test_faults_strike_at_this_face(sandbox: Sandbox, get: Get, list_applications: Get) -> None:
    """Faults strike by the path below the application, "/" does not, and counts can be missing or wrong."""
    sandbox.faults.replace(faults.ServerError(status=502))
    assert (await get("users")).status_code == 200
    sandbox.faults.replace(faults.ServerError(path="/classlink/users", status=502))
    refused = await get("users")
    assert (refused.status_code, refused.json()["imsx_codeMajor"]) == (502, "failure")
    assert (await get("orgs")).status_code == 200
    sandbox.faults.replace(faults.Unauthorized(path="/classlink"))
    assert (await get("orgs")).status_code == 401
    assert (await list_applications()).status_code == 200
    sandbox.faults.replace(faults.Unauthorized(path="/classlink/applications"))
    assert (await list_applications()).status_code == 401
    sandbox.faults.replace(faults.NoCounts(path="/classlink"), faults.Clamp(path="/classlink", limit=4))
    clamped = await get("users", limit=100)
    assert len(clamped.json()["users"]) == 4
    assert {"x-count", "x-total-count"}.isdisjoint(clamped.headers)
    sandbox.faults.replace(faults.BareArray(path="/classlink"), faults.WrongCounts(path="/classlink"))
    bare = await get("orgs")
    assert (len(bare.json()), bare.headers["x-count"], bare.headers["x-total-count"]) == (6, "6", "13")
