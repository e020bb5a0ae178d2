"""The polite client: how trouble on the way is told, and how fast."""

import asyncio
import gzip
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from homeroom.codes import Code
from provider_gateway.client import Limits, PoliteClient, _read_retry_after
from provider_gateway.failures import ProviderError
from provider_gateway.gates import HostGate, HostGates, Pace
from provider_gateway.providers._oneroster_bases import find_bases
from provider_gateway.signing import Answer, Bearer


async def fail(gateway: Any) -> tuple[Code, float]:
    """Run a job that fails; its code and how long it took."""
    began = time.monotonic()
    outcome = await gateway.run()
    assert outcome.failure is not None
    return outcome.failure.code, time.monotonic() - began


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://no-such-host.invalid"])
async def test_wrong_endpoint(gateway: Any, url: str) -> None:
    """An address where nothing answers fails within seconds as PROV_UNREACHABLE."""
    gateway.point_at(url)
    code, seconds = await fail(gateway)
    assert code == Code.PROV_UNREACHABLE
    assert seconds < 5


@pytest.mark.parametrize("host", ["127.0.0.1", "elsewhere.example"])
async def test_wrong_certificate(gateway: Any, provider: Any, serve: Any, tmp_path: Path, host: str) -> None:
    """A certificate that nobody vouches for, or of another host, fails at once as PROV_TLS, and no secret was sent."""
    authority = trustme.CA()
    certificate = authority.issue_cert(host)
    path = tmp_path / "server.pem"
    certificate.private_key_and_cert_chain_pem.write_to_path(path)
    if host != "127.0.0.1":
        gateway.tls = ssl.create_default_context()
        authority.configure_trust(gateway.tls)
    gateway.point_at(await serve(provider, ssl_certfile=str(path)))
    code, seconds = await fail(gateway)

    assert code == Code.PROV_TLS
    assert seconds < 3
    assert provider.queries == []


async def test_good_certificate(gateway: Any, provider: Any, serve: Any, tmp_path: Path) -> None:
    """A certificate of a trusted authority for the right host is fine."""
    authority = trustme.CA()
    path = tmp_path / "server.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(path)
    gateway.tls = ssl.create_default_context()
    authority.configure_trust(gateway.tls)
    gateway.point_at(await serve(provider, ssl_certfile=str(path)))
    await gateway.sync()


@pytest.mark.parametrize(
    ("response", "code"),
    [
        (RedirectResponse("http://127.0.0.1:1/"), Code.SSRF_BLOCKED),
        (Response(status_code=404), Code.PROV_NOT_FOUND),
        (Response(status_code=400), Code.PROV_BAD_PAYLOAD),
        (Response(gzip.compress(bytes(20_000_000)), headers={"content-encoding": "gzip"}), Code.PROV_BAD_PAYLOAD),
        (Response(b"not gzip", headers={"content-encoding": "gzip"}), Code.PROV_BAD_PAYLOAD),
    ],
    ids=["redirect", "404", "400", "bomb", "broken compression"],
)
async def test_answers(
    gateway: Any, provider: Any, response: Response, code: Code, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that hold no page end the run with their code; redirects are never followed."""
    monkeypatch.setattr("provider_gateway.client._LONGEST_PAUSE_SECONDS", 0.01)
    provider.answer = lambda *_: response
    outcome = await gateway.run(max_page_bytes=1_000_000)
    assert outcome.failure.code == code


@pytest.mark.parametrize(
    ("path", "root", "version"),
    [
        ("", "", None),
        ("/", "", None),
        ("/ims/oneroster/v1p1/", "", "v1p1"),
        ("/ims/oneroster", "", None),
        ("/IMS/OneRoster/", "", None),
        ("/ims/oneroster/rostering/v1p2", "", "rostering/v1p2"),
        ("/ims/oneroster/v1p2", "", "v1p2"),
        ("/district-7", "/district-7", None),
        ("/ims/oneroster/v1p1?x=1#y", "", "v1p1"),
    ],
)
def test_endpoints(path: str, root: str, version: str | None) -> None:
    """An endpoint may be entered with a version's path, or as a root, below which all versions are looked for."""
    versions = (version,) if version else ("v1p1", "rostering/v1p2", "v1p2")
    found = find_bases(httpx2.URL(f"https://roster.example{path}"))
    assert [str(base) for base in found] == [f"https://roster.example{root}/ims/oneroster/{one}" for one in versions]


async def test_private_endpoint_of_a_job(gateway: Any, provider: Any) -> None:
    """A job for a private endpoint ends before anything is sent, unless the installation allows such endpoints."""
    gateway.point_at("https://127.0.0.1:1")
    outcome = await gateway.run(allow_private_endpoints=False)
    assert outcome.failure.code == Code.SSRF_BLOCKED
    assert provider.queries == []


def test_retry_after() -> None:
    """Seconds and HTTP dates are understood, absurd ones capped, nonsense ignored."""
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert _read_retry_after("3", 900) == 3
    assert 55 < (_read_retry_after(soon, 900) or 0) <= 60
    assert _read_retry_after("1000000000", 900) == 900
    assert _read_retry_after("-5", 900) == 0
    assert _read_retry_after("Fri, 31 Feb 2026", 900) is None
    assert _read_retry_after("nan", 900) is None
    assert _read_retry_after(None, 900) is None


async def test_gate_limits_and_shrinks() -> None:
    """A host gets so many requests at once, half as many when it wants fewer, and more again when it copes."""
    gate = HostGate(4)
    now = most = 0

    async def visit() -> None:
        nonlocal now, most
        async with gate.slot():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0.001)
            now -= 1

    await asyncio.gather(*(visit() for _ in range(20)))
    assert most == 4
    gate.slow_down(0.05)
    gate.slow_down(0.05)
    assert gate.allowed == 2
    most = 0
    began = time.monotonic()
    await asyncio.gather(*(visit() for _ in range(6)))
    assert most == 2
    assert time.monotonic() - began >= 0.05
    for _ in range(20):
        gate.speed_up()
    assert gate.allowed == 4


async def test_gate_survives_cancelled_visitors() -> None:
    """A visitor that gives up while waiting takes no place with it."""
    gate = HostGate(1)
    async with gate.slot():
        waiting = [asyncio.create_task(gate.slot().__aenter__()) for _ in range(3)]
        await asyncio.sleep(0)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    async with asyncio.timeout(1), gate.slot():
        pass


async def test_retry_budget(serve: Any) -> None:
    """A run repeats no more requests than its budget allows."""
    asked = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await Response(status_code=500)(_scope, _receive, send)

    async def take(answer: Answer) -> Answer:
        return answer

    url = httpx2.URL(await serve(app))
    limits = Limits(first_pause_seconds=0.001, retries=3)
    async with PoliteClient.open(
        HostGates(4), limits, ssl.create_default_context(), provider="oneroster", allow_private=True
    ) as client:
        for _ in range(5):
            with pytest.raises(ProviderError):
                await client.get(url, path="/users", auth=httpx2.Auth(), read=take)
    assert asked == 5 + 3


@asynccontextmanager
async def opened(gates: HostGates | None = None, **limits: Any) -> AsyncIterator[PoliteClient]:
    """A client that is quick to ask again."""
    async with PoliteClient.open(
        gates or HostGates(4),
        Limits(first_pause_seconds=0.001, **limits),
        ssl.create_default_context(),
        provider="oneroster",
        allow_private=True,
    ) as client:
        yield client


async def take_answer(answer: Answer) -> Answer:
    """What `read` is where only the answer matters."""
    return answer


async def test_headers_and_questions_as_json(serve: Any) -> None:
    """A provider may add headers to a request, and ask a question as JSON."""
    met: list[tuple[str, str | None, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        met.append((request.method, request.headers.get("x-of-theirs"), await request.body()))
        await Response(b"{}")(scope, receive, send)

    url, headers = httpx2.URL(await serve(app)), {"x-of-theirs": "1"}
    async with opened() as client:
        await client.get(url, path="/x", auth=None, read=take_answer, headers=headers)
        await client.post_json(url, {"a": 1}, path="/x", auth=Bearer("t"), read=take_answer, headers=headers)
    assert met == [("GET", "1", b""), ("POST", "1", b'{"a":1}')]


async def test_token_is_looked_up_at_the_same_host(serve: Any) -> None:
    """A token that is looked up in the midst of a request needs no second place at a host that gives only one."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        good = scope["path"] == "/tokens" or dict(scope["headers"])[b"authorization"] == b"Bearer new"
        await Response(b"[]", 200 if good else 401)(scope, receive, send)

    url = httpx2.URL(await serve(app))
    async with opened(HostGates(1)) as client:
        looked_up = 0

        async def look_up() -> str:
            nonlocal looked_up
            looked_up += 1
            await client.get(url.copy_with(path="/tokens"), path="/tokens", auth=None, read=take_answer)
            return "new"

        bearer = Bearer("old", look_up)
        async with asyncio.timeout(5):
            answers = await asyncio.gather(
                *(client.get(url, path="/x", auth=bearer, read=take_answer) for _ in range(5))
            )
    assert [answer.status for answer in answers] == [200] * 5
    assert looked_up == 1


async def test_trouble_that_is_passed_on(serve: Any) -> None:
    """Trouble that the caller has another way for is tried twice, all other trouble as often as usual."""
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await Response(status_code=502)(scope, receive, send)

    url = httpx2.URL(await serve(app))
    async with opened() as client:
        for passed_on, tries in ((502, 2), (500, 5)):
            asked = 0
            with pytest.raises(ProviderError):
                await client.get(
                    url,
                    path="/x",
                    auth=None,
                    read=take_answer,
                    passes_on=lambda trouble, status=passed_on: trouble.status == status,  # type: ignore[misc]  # a default binds it
                )
            assert asked == tries


async def test_what_is_not_offered_is_not_repeated(serve: Any) -> None:
    """501 is the same the next time, so it is tried once."""
    asked = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal asked
        asked += 1
        await Response(status_code=501)(scope, receive, send)

    async with opened() as client:
        with pytest.raises(ProviderError) as caught:
            await client.get(httpx2.URL(await serve(app)), path="/x", auth=None, read=take_answer)
    assert (caught.value.code, caught.value.status, asked) == (Code.PROV_5XX, 501, 1)


async def test_pace(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more requests begin in any window than are allowed, whoever asks, and none is lost."""
    monkeypatch.setattr("provider_gateway.gates._WINDOW_SECONDS", 0.2)
    gates = HostGates(4)
    pace = gates.pace("district-1", 10)
    assert gates.pace("district-1", 10) is pace
    assert gates.pace("district-2", 10) is not pace
    began: list[float] = []

    async def ask() -> None:
        await pace.wait()
        began.append(time.monotonic())

    await asyncio.gather(*(ask() for _ in range(25)))
    assert len(began) == 25
    assert all(later - earlier >= 0.19 for earlier, later in zip(began, began[10:], strict=False))


@pytest.mark.parametrize(
    ("remaining", "reset", "rests"),
    [("0", 0.3, True), ("0", -5, False), ("7", 0.3, False), ("none", 0.3, False), ("0", float("nan"), False)],
)
async def test_pace_heeds_what_is_left(remaining: str, reset: float, rests: bool) -> None:
    """Where a provider says that nothing is left until its reset, the next request waits for that."""
    pace = Pace(100)
    pace.heed({"x-ratelimit-remaining": remaining, "x-ratelimit-reset": str(time.time() + reset)})
    began = time.monotonic()
    await pace.wait()
    assert (time.monotonic() - began > 0.2) is rests


async def test_pace_never_rests_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """An absurd reset holds nobody longer than a window."""
    monkeypatch.setattr("provider_gateway.gates._WINDOW_SECONDS", 0.1)
    pace = Pace(100)
    pace.heed({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"})
    async with asyncio.timeout(1):
        await pace.wait()


async def test_paced_requests(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with a pace waits its turn and learns from the answer; cancelled ones leave the others theirs."""
    monkeypatch.setattr("provider_gateway.gates._WINDOW_SECONDS", 0.3)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reset = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(time.time() + 0.3)}
        await Response(b"[]", headers=reset)(scope, receive, send)

    url = httpx2.URL(await serve(app))
    async with opened() as client:
        pace = client.pace("key", 1000)
        began = time.monotonic()
        await client.get(url, path="/x", auth=None, read=take_answer, pace=pace)
        waiting = asyncio.create_task(client.get(url, path="/x", auth=None, read=take_answer, pace=pace))
        await asyncio.sleep(0.05)
        waiting.cancel()
        await client.get(url, path="/x", auth=None, read=take_answer, pace=pace)
    assert 0.25 < time.monotonic() - began < 2
