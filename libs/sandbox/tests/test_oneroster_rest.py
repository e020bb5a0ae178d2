"""The OneRoster face over real HTTP: paging, filters, singles, and both ways of signing in."""

import base64
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from oauthlib import oauth1

from sandbox_district import COLLECTIONS, District, Sandbox, running_sandbox

LIST_PATHS = (*COLLECTIONS, "schools", "terms", "gradingPeriods", "students", "teachers")


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=120), max_limit=1000) as sandbox:
        yield sandbox


@pytest.fixture(name="http")
async def open_client() -> AsyncIterator[httpx2.AsyncClient]:
    async with httpx2.AsyncClient(timeout=10) as client:
        yield client


@pytest.fixture(name="bearer")
async def fetch_token(sandbox: Sandbox, http: httpx2.AsyncClient) -> dict[str, str]:
    form = {"grant_type": "client_credentials"}
    answer = await http.post(sandbox.token_url, data=form, auth=(sandbox.client_id, sandbox.client_secret))
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@pytest.fixture(name="get")
def make_get(sandbox: Sandbox, http: httpx2.AsyncClient, bearer: dict[str, str]) -> Callable[..., Any]:
    async def get(path: str, **params: Any) -> httpx2.Response:
        return await http.get(f"{sandbox.base_url}/{path}", params=params, headers=bearer)

    return get


def sign(sandbox: Sandbox, url: str, method: str = "HMAC-SHA256", **options: Any) -> dict[str, str]:
    """The Authorization header of a signed GET."""
    client = oauth1.Client(sandbox.client_id, options.pop("secret", sandbox.client_secret), signature_method=method)
    for name, value in options.items():
        setattr(client, name, value)
    _, headers, _ = client.sign(url)
    return {"Authorization": headers["Authorization"]}


@pytest.mark.parametrize("limit", [7, 100, 1000])
async def test_pages_make_the_whole(sandbox: Sandbox, get: Callable[..., Any], limit: int) -> None:
    """All pages of a collection, whatever their length, make exactly the collection in the order asked for."""
    ids: list[str] = []
    while True:
        answer = await get("users", limit=limit, offset=len(ids), sort="sourcedId", orderBy="asc")
        page = answer.json()["users"]
        assert answer.headers["x-total-count"] == str(len(sandbox.district.active("users")))
        if not page:
            break
        ids += [user["sourcedId"] for user in page]
    assert ids == sorted(sandbox.district.active("users"))


async def test_links_lead_through(sandbox: Sandbox, http: httpx2.AsyncClient, bearer: dict[str, str]) -> None:
    """Link leads from the first page to the last, keeping the filter, and there is no next on the last."""
    url: str | None = f"{sandbox.base_url}/enrollments?limit=300&filter=role%3D'student'"
    rows = 0
    while url:
        answer = await http.get(url, headers=bearer)
        rows += len(answer.json()["enrollments"])
        assert {"first", "last"} <= set(answer.links)
        url = answer.links.get("next", {}).get("url")
    assert rows == sum(record["role"] == "student" for record in sandbox.district.active("enrollments").values())


async def test_every_path_answers_by_type(get: Callable[..., Any]) -> None:
    """Lists are wrapped by the type of their records, and singles by its singular."""
    for path in LIST_PATHS:
        body = (await get(path, limit=1)).json()
        ((wrapper, rows),) = body.items()
        single = (await get(f"{path}/{rows[0]['sourcedId']}")).json()
        assert wrapper in COLLECTIONS
        assert list(single.values()) == rows


async def test_missing_things_are_404(get: Callable[..., Any]) -> None:
    """An unknown record, a record of another role and an unknown collection are 404 with OneRoster's body."""
    for path in ("users/nobody", "teachers/stu-100001", "unicorns", "classes/x/students"):
        answer = await get(path)
        assert answer.status_code == 404
        assert answer.json()["imsx_codeMajor"] == "failure"


async def test_awkward_ids_can_be_asked_for(get: Callable[..., Any]) -> None:
    """A sourcedId with a slash, a space and an accent is found when it is escaped."""
    answer = await get(f"users/{quote('aide/ü 3', safe='')}")
    assert answer.json()["user"]["role"] == "aide"


async def test_tombstones_are_served(sandbox: Sandbox, get: Callable[..., Any]) -> None:
    """Tombstones are in the lists and singles as tobedeleted, and can be filtered out."""
    removed = sandbox.district.advance_day()["users"].removed
    listed = {user["sourcedId"]: user["status"] for user in (await get("users", limit=1000)).json()["users"]}
    buried = {key for key, status in listed.items() if status == "tobedeleted"}
    assert buried
    assert buried < removed
    single = (await get(f"users/{min(buried)}")).json()["user"]
    active = await get("users", limit=1000, filter="status='active'")
    assert single["status"] == "tobedeleted"
    assert {user["sourcedId"] for user in active.json()["users"]} == set(sandbox.district.active("users"))


@pytest.mark.parametrize(
    ("text", "keep"),
    [
        ("role='teacher'", lambda user: user["role"] == "teacher"),
        ("role!='student'", lambda user: user["role"] != "student"),
        ("role='aide' OR role='administrator'", lambda user: user["role"] in {"aide", "administrator"}),
        ("status='active' AND grades='09'", lambda user: "09" in user["grades"]),
        ("dateLastModified>='2026-09-01'", lambda user: user["dateLastModified"] >= "2026-09-01"),
        ("familyName~'o'''", lambda user: "o'" in user["familyName"].lower()),
        ("orgs.sourcedId = '105'", lambda user: "105" in [org["sourcedId"] for org in user["orgs"]]),
        ("enabledUser='false'", lambda user: not user["enabledUser"]),
    ],
)
async def test_filters(sandbox: Sandbox, get: Callable[..., Any], text: str, keep: Callable[[Any], bool]) -> None:
    """A filter returns exactly the records it describes."""
    answer = await get("users", limit=1000, filter=text)
    expected = {key for key, user in sandbox.district.active("users").items() if keep(user)}
    assert {user["sourcedId"] for user in answer.json()["users"]} == expected


@pytest.mark.parametrize(
    "params",
    [{"filter": "wand='elder'"}, {"filter": "role=teacher"}, {"limit": 0}, {"limit": "all"}, {"offset": -1}],
)
async def test_bad_questions_are_400(get: Callable[..., Any], params: dict[str, Any]) -> None:
    """A filter that is not understood and a limit or offset that makes no sense are 400 without rows."""
    answer = await get("users", **params)
    assert answer.status_code == 400
    assert answer.json()["imsx_severity"] == "error"


async def test_sort_and_fields(get: Callable[..., Any]) -> None:
    """Rows come sorted either way, with only the fields asked for; an unknown sort field is a warning."""
    answer = await get("users", limit=1000, sort="familyName", orderBy="desc", fields="sourcedId,familyName")
    rows = answer.json()["users"]
    names = [row["familyName"] for row in rows]
    assert names == sorted(names, reverse=True)
    assert all(set(row) == {"sourcedId", "familyName"} for row in rows)
    odd = (await get("users", sort="shoeSize")).json()
    assert odd["statusInfoSet"][0]["imsx_severity"] == "warning"
    assert len(odd["users"]) == 100


@pytest.mark.parametrize("method", ["HMAC-SHA1", "HMAC-SHA256"])
@pytest.mark.parametrize("query", ["", "?limit=5&offset=2", "?filter=status%3D%27active%27%20AND%20role%3D%27aide%27"])
async def test_signed_requests(sandbox: Sandbox, http: httpx2.AsyncClient, method: str, query: str) -> None:
    """A request that is rightly signed, its query included, is answered."""
    url = f"{sandbox.base_url}/users{query}"
    answer = await http.get(url, headers=sign(sandbox, url, method))
    assert answer.status_code == 200


async def test_wrong_signatures(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A wrong secret, another query than was signed, an old timestamp, another method and a replay are 401."""
    url = f"{sandbox.base_url}/users?limit=5"
    good = sign(sandbox, url)
    attempts = [
        (url, sign(sandbox, url, secret="guess")),
        (f"{sandbox.base_url}/users?limit=6", sign(sandbox, url)),
        (url, sign(sandbox, url, timestamp=str(int(time.time()) - 3600))),
        (url, sign(sandbox, url, "PLAINTEXT")),
        (url, {"Authorization": "OAuth nonsense"}),
        (url, {}),
    ]
    assert (await http.get(url, headers=good)).status_code == 200
    for address, headers in [(url, good), *attempts]:
        answer = await http.get(address, headers=headers)
        assert answer.status_code == 401
        assert answer.json()["imsx_codeMajor"] == "failure"


async def test_token_by_form_and_by_header(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A token is given to the client named in the form or in a Basic header, escaped or not, and to nobody else."""
    form = {"grant_type": "client_credentials"}
    escaped = base64.b64encode(f"{sandbox.client_id}:{quote(sandbox.client_secret, safe='')}".encode()).decode()
    named = form | {"client_id": sandbox.client_id, "client_secret": sandbox.client_secret}
    assert (await http.post(sandbox.token_url, data=named)).json()["token_type"] == "Bearer"
    header = await http.post(sandbox.token_url, data=form, headers={"Authorization": f"Basic {escaped}"})
    assert header.json()["expires_in"] == 3600
    for refused in (
        await http.post(sandbox.token_url, data=form),
        await http.post(sandbox.token_url, data=form, auth=(sandbox.client_id, "guess")),
        await http.post(sandbox.token_url, data=named | {"grant_type": "password"}),
    ):
        assert refused.status_code in {400, 401}


async def test_scopes_are_kept_to(sandbox: Sandbox, http: httpx2.AsyncClient) -> None:
    """A token without the demographics scope reads the roster and no demographics."""
    form = {
        "grant_type": "client_credentials",
        "scope": "https://purl.imsglobal.org/spec/or/v1p1/scope/roster-core.readonly",
    }
    token = (await http.post(sandbox.token_url, data=form, auth=(sandbox.client_id, sandbox.client_secret))).json()
    headers = {"Authorization": f"Bearer {token['access_token']}"}
    assert (await http.get(f"{sandbox.base_url}/users", headers=headers)).status_code == 200
    assert (await http.get(f"{sandbox.base_url}/demographics", headers=headers)).status_code == 403


async def test_tokens_expire(http: httpx2.AsyncClient) -> None:
    """A token is refused when its time is over."""
    async with running_sandbox(District(students=0), token_seconds=0) as sandbox:
        form = {"grant_type": "client_credentials"}
        answer = await http.post(sandbox.token_url, data=form, auth=(sandbox.client_id, sandbox.client_secret))
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        assert (await http.get(f"{sandbox.base_url}/orgs", headers=headers)).status_code == 401


async def test_empty_collections_can_be_asked_anything(sandbox: Sandbox, get: Callable[..., Any]) -> None:
    """A filter and an order for a collection that is empty make no error."""
    sandbox.district.collections["demographics"].clear()
    answer = await get("demographics", filter="dateLastModified>'2026-01-01'", sort="sourcedId")
    assert answer.status_code == 200
    assert answer.json() == {"demographics": []}


async def test_requests_are_counted(sandbox: Sandbox, get: Callable[..., Any]) -> None:
    """The sandbox counts the requests of each path."""
    await get("orgs")
    await get("orgs", offset=1)
    assert sandbox.requests["/ims/oneroster/v1p1/orgs"] == 2
