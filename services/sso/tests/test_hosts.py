"""Keeping what was found out about hosts, and connections to them: quick, and never to where nobody looked."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx2
import pytest

from homeroom.clock import MovingClock
from sso.upstream import hosts
from sso.upstream.fetching import Fetching, NotFetched
from sso.upstream.hosts import IDLE_SECONDS, JUDGED_SECONDS, Hosts

PUBLIC, OTHER, PRIVATE = "93.184.215.14", "93.184.215.15", "10.0.0.7"


@dataclass
class KeepingServer:
    """A server that keeps connections open, and answers with the path it was asked for."""

    port: int = 0
    asked: list[tuple[int, str, dict[str, str]]] = field(default_factory=list)
    """By connection: method and path, and headers."""
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, as the paths say."""
        number = len(self.writers)
        self.writers.append(writer)
        try:
            for served in range(100):
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *rest = head.strip().split("\r\n")
                headers = dict(one.lower().split(": ", 1) for one in rest)
                await reader.readexactly(int(headers.get("content-length", "0")))
                asked = line.removesuffix(" HTTP/1.1")
                self.asked.append((number, asked, headers))
                if asked.endswith("/once-only") and served:
                    return
                if asked.endswith("/slow"):
                    await asyncio.sleep(0.3)
                body = b'{"path": "%s"}' % asked.partition(" ")[2].encode()
                body += b" " * 1_000_000 * asked.endswith("/large")
                kind = b"Content-Type: application/json\r\nSet-Cookie: who=ada\r\n"
                answer = b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(body), body)
                writer.write(answer * (2 if asked.endswith("/twice") else 1))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    def url(self, path: str, host: str = "one.test", scheme: str = "http") -> str:
        """A URL by a host's name."""
        return f"{scheme}://{host}:{self.port}{path}"

    def list_connections(self) -> list[int]:
        """Which connection each question came by."""
        return [number for number, _, _ in self.asked]


@dataclass
class Names:
    """Where names lead, and how often that was asked."""

    leads: dict[str, str] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)

    async def find(self, host: str, port: int, **_: Any) -> list[Any]:
        """In `getaddrinfo`'s place."""
        self.asked[host] += 1
        await asyncio.sleep(0.01)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (self.leads.get(host, "127.0.0.1"), port))]


@pytest.fixture
async def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names that all lead to this machine, until told else."""
    names = Names()
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.find)
    return names


@pytest.fixture
def clock() -> MovingClock:
    """A clock."""
    return MovingClock(datetime(2026, 3, 1, tzinfo=UTC))


@asynccontextmanager
async def serving(tls: ssl.SSLContext | None = None) -> AsyncIterator[KeepingServer]:
    """A server on loopback."""
    keeping = KeepingServer()
    served = await asyncio.start_server(keeping.serve, "127.0.0.1", 0, ssl=tls)
    keeping.port = served.sockets[0].getsockname()[1]
    yield keeping
    served.close()
    for writer in keeping.writers:
        writer.close()


@dataclass
class Certified:
    """A certificate for `one.test`: as its server has it, and as whoever trusts it does."""

    serving: ssl.SSLContext
    trusting: ssl.SSLContext


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    """A certificate."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    named = ("-subj", "/CN=one", "-addext", "subjectAltName=DNS:one.test", "-keyout", key, "-out", certificate)
    subprocess.run(("openssl", *made, *named), check=True, capture_output=True, timeout=30)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    return Certified(tls, ssl.create_default_context(cafile=str(certificate)))


@pytest.fixture
async def server() -> AsyncIterator[KeepingServer]:
    """A server without TLS."""
    async with serving() as keeping:
        yield keeping


@asynccontextmanager
async def fetching(clock: MovingClock, *, seconds: float = 2) -> AsyncIterator[Fetching]:
    """Something that fetches from loopback."""
    async with Fetching.open(allow_private=True, seconds=seconds, clock=clock) as opened:
        yield opened


@dataclass
class PlayedNetwork:
    """Connections that are only noted: the address each question went to."""

    asked: list[str] = field(default_factory=list)

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        """In a server's place."""
        self.asked.append(request.url.host)
        assert request.headers["host"] == request.extensions["sni_hostname"] == "portal.test"
        return httpx2.Response(200, stream=httpx2.ByteStream(b"{}"), headers={"Content-Type": "application/json"})


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> PlayedNetwork:
    """A network that is played."""
    network = PlayedNetwork()
    monkeypatch.setattr(Hosts, "_open_transport", lambda _: httpx2.MockTransport(network.answer))
    return network


async def test_a_connection_serves_many_questions(names: Names, server: KeepingServer, clock: MovingClock) -> None:
    """One greeting and one look-up do for questions that follow each other, whichever kind they are."""
    async with fetching(clock) as asking:
        for _ in range(3):
            assert (await asking.post(server.url("/token"), b"code=1", {})).read_json() == {"path": "/token"}
            assert await asking.get_json(server.url("/info")) == {"path": "/info"}
    assert server.list_connections() == [0] * 6
    assert names.asked == {"one.test": 1}
    assert all("cookie" not in headers for _, _, headers in server.asked)


async def test_hosts_share_no_connection(names: Names, server: KeepingServer, clock: MovingClock) -> None:
    """Two hosts at one address each have connections of their own."""
    async with fetching(clock) as asking:
        for host in ("one.test", "two.test", "one.test", "two.test"):
            await asking.get_json(server.url("/", host))
    found = {(number, headers["host"]) for number, _, headers in server.asked}
    assert found == {(0, f"one.test:{server.port}"), (1, f"two.test:{server.port}")}
    assert names.asked == {"one.test": 1, "two.test": 1}


@pytest.mark.usefixtures("names")
async def test_a_certificate_counts_for_its_host_only(certified: Certified, clock: MovingClock) -> None:
    """Connections with TLS are kept as well; a host is not asked over one that was opened to another's name."""
    opened = Fetching.open(allow_private=True, tls=certified.trusting, clock=clock)
    async with serving(certified.serving) as server, opened as asking:
        for _ in range(3):
            await asking.get_json(server.url("/", scheme="https"))
            with pytest.raises(NotFetched, match="tls"):
                await asking.get_json(server.url("/", "two.test", scheme="https"))
    assert server.list_connections() == [0, 0, 0]


async def test_many_wait_for_one_look_up(names: Names, server: KeepingServer, clock: MovingClock) -> None:
    """However many ask at once, a name is looked up once; whoever stops waiting does not stop the others."""
    async with fetching(clock) as asking:
        first = asyncio.create_task(asking.get_json(server.url("/first")))
        others = [asyncio.create_task(asking.get_json(server.url(f"/{number}"))) for number in range(8)]
        await asyncio.sleep(0.003)
        first.cancel()
        assert await asyncio.gather(*others) == [{"path": f"/{number}"} for number in range(8)]
        assert first.cancelled()
        clock.move(seconds=JUDGED_SECONDS)
        await asking.get_json(server.url("/later"))
    assert names.asked == {"one.test": 2}


async def test_attack_45_a_name_that_turns_private_is_refused(
    names: Names, network: PlayedNetwork, clock: MovingClock
) -> None:
    """DNS rebinding: what was judged is what is connected to, and when the name leads inside, nothing is any longer."""
    async with Fetching.open(allow_private=False, clock=clock) as asking:
        names.leads["portal.test"] = PUBLIC
        await asking.get_json("https://portal.test/jwks")
        names.leads["portal.test"] = PRIVATE
        await asking.get_json("https://portal.test/jwks")
        assert network.asked == [PUBLIC, PUBLIC]
        clock.move(seconds=JUDGED_SECONDS)
        for _ in range(2):
            with pytest.raises(NotFetched) as refused:
                await asking.get_json("https://portal.test/jwks")
            assert refused.value.word == "address"
        names.leads["portal.test"] = OTHER
        await asking.get_json("https://portal.test/jwks")
    assert network.asked == [PUBLIC, PUBLIC, OTHER]


async def test_a_host_that_moved_is_asked_where_it_is(names: Names, network: PlayedNetwork, clock: MovingClock) -> None:
    """Within seconds questions go to the new address, over other connections."""
    async with Fetching.open(allow_private=False, clock=clock) as asking:
        for address in (PUBLIC, OTHER):
            names.leads["portal.test"] = address
            await asking.get_json("https://portal.test/jwks")
            clock.move(seconds=JUDGED_SECONDS)
    assert network.asked == [PUBLIC, OTHER]


async def test_an_address_that_nobody_answers_at_is_not_remembered(
    names: Names, server: KeepingServer, clock: MovingClock
) -> None:
    """After a connection failed the name is looked up again at once."""
    names.leads["one.test"] = "127.0.0.9"
    async with fetching(clock) as asking:
        with pytest.raises(NotFetched, match="unreachable"):
            await asking.get_json(server.url("/"))
        names.leads["one.test"] = "127.0.0.1"
        await asking.get_json(server.url("/"))


async def test_a_connection_closed_meanwhile_fails_nothing(
    names: Names, server: KeepingServer, clock: MovingClock
) -> None:
    """A server that closed a kept connection is asked over a new one, once."""
    async with fetching(clock) as asking:
        await asking.get_json(server.url("/"))
        for number in (1, 2):
            server.writers[-1].close()
            await asyncio.sleep(0.01)
            await asking.post(server.url("/token"), b"code=1", {})
            assert server.list_connections() == list(range(number + 1))
    assert names.asked == {"one.test": 1}


@pytest.mark.usefixtures("names")
async def test_a_code_is_never_sent_twice(server: KeepingServer, clock: MovingClock) -> None:
    """A connection that breaks as it is used again has a question asked once more, but no code presented once more."""
    async with fetching(clock) as asking:
        await asking.get_json(server.url("/"))
        assert await asking.get_json(server.url("/once-only")) == {"path": "/once-only"}
        assert server.list_connections() == [0, 0, 1]
        with pytest.raises(NotFetched, match="unreachable"):
            await asking.post(server.url("/once-only"), b"code=1", {})
    assert [asked for _, asked, _ in server.asked].count("POST /once-only") == 1


@pytest.mark.usefixtures("names")
async def test_an_answer_that_was_not_awaited_is_nobody_elses(server: KeepingServer, clock: MovingClock) -> None:
    """What is left of an answer that was too large or too late never comes as the answer to the next question."""
    async with fetching(clock, seconds=0.15) as asking:
        for path, word in (("/large", "too-large"), ("/slow", "timeout")):
            await asking.get_json(server.url("/before"))
            with pytest.raises(NotFetched, match=word):
                await asking.post(server.url(path), b"", {})
            await asyncio.sleep(0.2)
            assert await asking.get_json(server.url("/after")) == {"path": "/after"}


@pytest.mark.usefixtures("names")
@pytest.mark.parametrize("secure", [False, True])
async def test_an_answer_too_many_is_nobodys(
    server: KeepingServer, certified: Certified, clock: MovingClock, *, secure: bool
) -> None:
    """A server that answers one question twice has nobody be told what was said about somebody else."""
    scheme = "https" if secure else "http"
    async with AsyncExitStack() as stack:
        if secure:
            server = await stack.enter_async_context(serving(certified.serving))
        opened = Fetching.open(allow_private=True, tls=certified.trusting, clock=clock)
        asking = await stack.enter_async_context(opened)
        assert await asking.get_json(server.url("/twice", scheme=scheme)) == {"path": "/twice"}
        assert await asking.get_json(server.url("/ada", scheme=scheme)) == {"path": "/ada"}
        assert await asking.get_json(server.url("/twice", scheme=scheme)) == {"path": "/twice"}
        try:
            answer = await asking.post(server.url("/token", scheme=scheme), b"code=1", {})
            assert answer.read_json() == {"path": "/token"}
        except NotFetched as failed:
            assert failed.word == "unreachable"  # noqa: PT017 - either is right: its code is not sent once more
        answer = await asking.post(server.url("/token", scheme=scheme), b"code=2", {})
        assert answer.read_json() == {"path": "/token"}


@pytest.mark.usefixtures("names")
async def test_what_is_kept_is_bounded(
    server: KeepingServer, clock: MovingClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The host asked longest ago makes room for another, without harm to what is under way; idle ones are let go."""
    monkeypatch.setattr(hosts, "MOST_HOSTS", 2)
    async with fetching(clock) as asking:
        under_way = asyncio.create_task(asking.get_json(server.url("/slow", "a.test")))
        await asyncio.sleep(0.1)
        for host in ("b.test", "c.test", "b.test"):
            await asking.get_json(server.url("/", host))
        assert await under_way == {"path": "/slow"}
        assert server.list_connections() == [0, 1, 2, 1]
        await asyncio.sleep(0.01)
        assert [writer.is_closing() for writer in server.writers] == [True, False, False]
        clock.move(seconds=IDLE_SECONDS)
        await asking.hosts.sweep()
        await asyncio.sleep(0.01)
        assert all(writer.is_closing() for writer in server.writers)
