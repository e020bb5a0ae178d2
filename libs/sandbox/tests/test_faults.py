"""Trouble on demand: each fault does what it says."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2
import pytest

from sandbox_district import District, Fault, Faults, Sandbox, faults, running_sandbox

Get = Callable[..., Awaitable[httpx2.Response]]


@pytest.fixture(name="sandbox")
async def run_sandbox() -> AsyncIterator[Sandbox]:
    async with running_sandbox(District(students=60)) as sandbox:
        yield sandbox


@pytest.fixture(name="get")
async def make_get(sandbox: Sandbox) -> AsyncIterator[Get]:
    form = {"grant_type": "client_credentials"}
    async with httpx2.AsyncClient(timeout=10) as client:
        answer = await client.post(sandbox.token_url, data=form, auth=(sandbox.client_id, sandbox.client_secret))
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}

        async def get(path: str, **params: Any) -> httpx2.Response:
            return await client.get(f"{sandbox.base_url}/{path}", params=params, headers=headers)

        yield get


def count_strikes(fault: Fault, *paths: str) -> list[bool]:
    """Which of some requests a fault strikes."""
    in_force = Faults(fault)
    return [bool(in_force.strike(path, single=path.count("/") > 1)) for path in paths]


def test_when_faults_strike() -> None:
    """A fault strikes its path only, after some requests, each k-th one, and so many times."""
    assert count_strikes(faults.ServerError(path="/users"), "/orgs", "/users", "/users/1") == [False, True, True]
    assert count_strikes(faults.ServerError(times=2), *["/orgs"] * 4) == [True, True, False, False]
    assert count_strikes(faults.ServerError(after=1, every=2), *["/orgs"] * 5) == [False, False, True, False, True]
    assert count_strikes(faults.ServerError(), "/oauth/token") == [False]
    assert count_strikes(faults.ServerError(path="/oauth/token"), "/oauth/token") == [True]
    assert count_strikes(faults.Empty(times=1), "/users/1", "/users") == [False, True]
    assert count_strikes(faults.NotFoundSingles(times=1), "/users", "/users/1") == [False, True]


async def test_rate_limit(sandbox: Sandbox, get: Get) -> None:
    """429 tells the seconds to wait, or the moment to come back, or nothing, and is over when it is over."""
    sandbox.faults.replace(
        faults.RateLimit(times=1, retry_after=2),
        faults.RateLimit(after=1, times=1, retry_after=90, as_date=True),
        faults.RateLimit(after=2, times=1, retry_after=None),
    )
    seconds, moment, silent, over = [await get("orgs") for _ in range(4)]
    assert [answer.status_code for answer in (seconds, moment, silent, over)] == [429, 429, 429, 200]
    assert seconds.headers["retry-after"] == "2"
    assert 80 < parsedate_to_datetime(moment.headers["retry-after"]).timestamp() - time.time() < 100
    assert "retry-after" not in silent.headers


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (faults.ServerError(status=503), 503),
        (faults.Unauthorized(), 401),
        (faults.Forbidden(path="/users"), 403),
        (faults.ErrorEnvelope(), 200),
    ],
)
async def test_refusals(sandbox: Sandbox, get: Get, fault: Fault, status: int) -> None:
    """Errors come with their status and OneRoster's error body."""
    sandbox.faults.replace(fault)
    answer = await get("users")
    assert answer.status_code == status
    assert answer.json()["imsx_codeMajor"] == "failure"


async def test_html_login(sandbox: Sandbox, get: Get) -> None:
    """A sign-in page comes as 200 in HTML."""
    sandbox.faults.replace(faults.HtmlLogin())
    answer = await get("users")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


async def test_not_found_singles(sandbox: Sandbox, get: Get) -> None:
    """Records are listed, and not found when asked for by sourcedId."""
    sandbox.faults.replace(faults.NotFoundSingles())
    assert (await get("orgs/100")).status_code == 404
    assert (await get("orgs")).json()["orgs"]


@pytest.mark.parametrize("fault", [faults.Slow(seconds=0.2), faults.Drip(size=1000, seconds=0.1)])
async def test_time(sandbox: Sandbox, get: Get, fault: Fault) -> None:
    """A slow answer and one that drips are right, and take their time."""
    sandbox.faults.replace(fault)
    begun = time.monotonic()
    assert len((await get("orgs")).json()["orgs"]) == 6
    assert time.monotonic() - begun > 0.15


async def test_truncate(sandbox: Sandbox, get: Get) -> None:
    """A cut body is a whole HTTP answer with 200 and half its JSON."""
    sandbox.faults.replace(faults.Truncate())
    answer = await get("orgs")
    assert answer.status_code == 200
    with pytest.raises(ValueError, match="line 1"):
        answer.json()


async def test_hang_up(sandbox: Sandbox, get: Get) -> None:
    """A connection that closes in the middle of the body is a protocol error, and the next request is fine."""
    sandbox.faults.replace(faults.HangUp(times=1))
    with pytest.raises(httpx2.RemoteProtocolError):
        await get("orgs")
    assert (await get("orgs")).status_code == 200


async def test_short_list(sandbox: Sandbox, get: Get) -> None:
    """The list ends early while the count says there is more."""
    sandbox.faults.replace(faults.ShortList(rows=10))
    answer = await get("users")
    assert len(answer.json()["users"]) == 10
    assert int(answer.headers["x-total-count"]) == len(sandbox.district.active("users"))
    assert (await get("users", offset=10)).json()["users"] == []


async def test_empty(sandbox: Sandbox, get: Get) -> None:
    """A collection is empty and says so, while its records are there one by one."""
    sandbox.faults.replace(faults.Empty(path="/orgs"))
    answer = await get("orgs")
    assert answer.json() == {"orgs": []}
    assert answer.headers["x-total-count"] == "0"
    assert (await get("orgs/100")).status_code == 200


async def test_clamp(sandbox: Sandbox, get: Get) -> None:
    """Pages are shorter than asked for, and start where they should."""
    sandbox.faults.replace(faults.Clamp(limit=4))
    first = (await get("users", limit=50, sort="sourcedId")).json()["users"]
    second = (await get("users", limit=50, offset=4, sort="sourcedId")).json()["users"]
    assert [user["sourcedId"] for user in first + second] == sorted(sandbox.district.active("users"))[:8]


async def test_counts(sandbox: Sandbox, get: Get) -> None:
    """Counts are missing, with the links, or off by as many as was asked for."""
    sandbox.faults.replace(faults.NoCounts(times=1), faults.WrongCounts(after=1, by=-2))
    silent, wrong = await get("orgs"), await get("orgs")
    assert not {"x-total-count", "link"} & set(silent.headers)
    assert wrong.headers["x-total-count"] == "4"
    assert len(wrong.json()["orgs"]) == 6


async def test_bare_array(sandbox: Sandbox, get: Get) -> None:
    """The array comes without its wrapper."""
    sandbox.faults.replace(faults.BareArray())
    assert len((await get("orgs")).json()) == 6


async def test_ignore_sort(sandbox: Sandbox, get: Get) -> None:
    """No order is kept to: steadily, so that pages still make the whole, or restlessly, so that they do not."""
    whole = set(sandbox.district.active("users"))

    async def read_all() -> list[str]:
        ids: list[str] = []
        while page := (await get("users", limit=20, offset=len(ids), sort="sourcedId")).json()["users"]:
            ids += [user["sourcedId"] for user in page]
        return ids

    sandbox.faults.replace(faults.IgnoreSort())
    steady = await read_all()
    sandbox.faults.replace(faults.IgnoreSort(restless=True))
    restless = await read_all()
    assert steady != sorted(steady)
    assert set(steady) == whole
    assert len(restless) == len(whole)
    assert set(restless) < whole


@pytest.mark.parametrize("change", ["delete", "insert"])
async def test_shift(sandbox: Sandbox, get: Get, change: Any) -> None:
    """Between two pages a record goes, and the client skips one, or comes, and it gets one twice; both for good."""
    before = sorted(sandbox.district.active("enrollments"))
    sandbox.faults.replace(faults.Shift(path="/enrollments", change=change))
    ids: list[str] = []
    totals: list[int] = []
    while True:
        answer = await get("enrollments", limit=100, offset=len(ids), sort="sourcedId")
        totals.append(int(answer.headers["x-total-count"]))
        if not answer.json()["enrollments"]:
            break
        ids += [enrollment["sourcedId"] for enrollment in answer.json()["enrollments"]]
    after = set(sandbox.district.active("enrollments"))
    step = -1 if change == "delete" else 1
    assert len(after) == len(before) + step
    assert totals[0] == len(before)
    assert set(totals[1:]) == {len(after)}
    assert len(set(ids)) == len(before) - (change == "delete")
    assert not after <= set(ids)
    assert sandbox.district.history[-1]["enrollments"]


async def test_record_shapes(sandbox: Sandbox, get: Get) -> None:
    """Metadata is null, booleans are words, and users have roles beside their role."""
    sandbox.faults.replace(faults.NullMetadata(), faults.StringBooleans(), faults.BothRoles())
    (user,) = (await get("users", limit=1)).json()["users"]
    single = (await get(f"users/{user['sourcedId']}")).json()["user"]
    assert user == single
    assert user["metadata"] is None
    assert user["enabledUser"] in {"true", "false"}
    assert user["roles"][0] == {"roleType": "primary", "role": user["role"], "org": user["orgs"][0]}


async def test_masked(sandbox: Sandbox, get: Get) -> None:
    """Fields come masked or not at all, and the others as they are (C13)."""
    sandbox.faults.replace(faults.Masked(fields=("email", "familyName"), times=1), faults.Masked(after=1, mask=None))
    (covered,) = (await get("users", limit=1)).json()["users"]
    (withheld,) = (await get("users", limit=1)).json()["users"]
    assert covered["email"] == covered["familyName"] == "*****"
    assert "email" not in withheld
    assert covered["givenName"] == withheld["givenName"]


async def test_bad_records(sandbox: Sandbox, get: Get) -> None:
    """So many records cannot be understood, in each of four ways in turn, and the others are as they were."""
    sandbox.faults.replace(faults.BadRecords(rows=4))
    rows = (await get("enrollments", limit=10000, sort="sourcedId")).json()["enrollments"]
    no_id, unknown_role, null_reference, no_object = rows[:4]
    assert "sourcedId" not in no_id
    assert unknown_role["role"] == "wizard"
    assert null_reference["user"] is None
    assert isinstance(no_object, str)
    assert all(row == sandbox.district.collections["enrollments"][row["sourcedId"]] for row in rows[4:])
    sandbox.faults.replace(faults.BadRecords(rows=2, how="unknown_role"))
    users = (await get("users", limit=10000)).json()["users"]
    assert sum(user["role"] == "wizard" for user in users) == 2


async def test_token_expiry(sandbox: Sandbox, get: Get) -> None:
    """A bearer token is good for so many requests and then refused."""
    sandbox.faults.replace(faults.TokenExpiry(requests=2))
    assert [(await get("orgs")).status_code for _ in range(4)] == [200, 200, 401, 401]
