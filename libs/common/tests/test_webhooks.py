"""One webhook on its way: endpoints of every kind, and addresses that must not be reached."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from homeroom import webhooks
from homeroom.testing.receivers import receiving
from homeroom.webhooks import NotDelivered, Webhooks, make_secret, read_retry_after

SECRET = make_secret()
NOW = datetime.now(UTC).replace(microsecond=0)


async def post(url: str, *, allow_private: bool = True) -> None:
    """Send one webhook."""
    async with asyncio.timeout(5), Webhooks.open(allow_private=allow_private) as sender:
        await sender.send(url, "1", "{}", [SECRET], NOW)


@asynccontextmanager
async def endpoint(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """A server on loopback that says what it is told to, and its address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    finally:
        server.close()


async def test_two_secrets_are_two_signatures() -> None:
    """While a secret is exchanged one delivery verifies with both."""
    other = make_secret()
    async with receiving() as receiver, Webhooks.open(allow_private=True) as sender:
        answer = await sender.send(receiver.url, "1", '{"a": "é"}'.encode(), [SECRET, other], datetime.now(UTC))
    [(headers, body)] = receiver.requests
    for secret in (SECRET, other):
        Webhook(secret).verify(body, headers)
    assert answer.status == 204


@pytest.mark.parametrize(
    ("status", "extra", "why", "for_good", "pause"),
    [
        (500, b"", "answered 500", False, None),
        (429, b"Retry-After: 7\r\n", "answered 429", False, 7.0),
        (410, b"", "answered 410", True, None),
        (308, b"Location: /hook\r\n", "redirections are not followed", False, None),
    ],
)
async def test_answers_that_are_no_success(
    status: int, extra: bytes, why: str, for_good: bool, pause: float | None
) -> None:
    """Errors, loops of redirections and endpoints that are gone are told apart; each is asked once."""
    async with receiving(status=status, extra=extra) as receiver:
        with pytest.raises(NotDelivered, match=why) as caught:
            await post(receiver.url)
    assert (caught.value.for_good, caught.value.pause, caught.value.status) == (for_good, pause, status)
    assert len(receiver.requests) == 1


async def test_endless_answers_are_not_read() -> None:
    """Of an answer only the status is read, however much comes."""
    ended = asyncio.Event()

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:
            ended.set()

    async with endpoint(pour) as url, asyncio.timeout(5):
        await post(url)
        await ended.wait()


async def test_endless_headers_and_garbage() -> None:
    """What is no HTTP, or never stops to say how it is, is a connection that failed."""

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while not writer.is_closing():
            writer.write(b"X-More: " + b"x" * 8000 + b"\r\n")
            await writer.drain()

    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\x00\xff\x16\x03 SSH-2.0-hello\r\n\r\n")
        await writer.drain()

    for talk in (pour, babble):
        async with endpoint(talk) as url:
            with pytest.raises(NotDelivered, match="The connection failed"):
                await post(url)


async def test_slow_endpoints_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who answers a byte at a time is given up as soon as who says nothing at all."""
    monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 0.3)

    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while not writer.is_closing():
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.05)

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    for talk in (drip, hang):
        async with endpoint(talk) as url:
            began = asyncio.get_running_loop().time()
            with pytest.raises(NotDelivered):
                await post(url)
            assert asyncio.get_running_loop().time() - began < 1


async def test_a_certificate_nobody_knows(tmp_path: Path) -> None:
    """Nothing is sent to an endpoint whose certificate is not trusted, and the reason says so."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    named = ("-subj", "/CN=localhost", "-keyout", key, "-out", certificate)
    await asyncio.to_thread(subprocess.run, ("openssl", *made, *named), check=True, capture_output=True, timeout=30)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    heard: list[bytes] = []

    async def hear(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        heard.append(await reader.read())

    async with endpoint(hear, tls) as url:
        with pytest.raises(NotDelivered, match="its certificate is not trusted"):
            await post(url)
    assert heard == []


async def test_private_addresses_are_sent_nothing() -> None:
    """Where private addresses are not allowed, a name that leads to one is refused when the connection is made."""
    async with receiving() as receiver:
        with pytest.raises(NotDelivered, match="private address"):
            await post(receiver.url.replace("127.0.0.1", "localhost"), allow_private=False)
        assert receiver.requests == []


async def test_a_name_that_changes_its_mind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is judged and private a moment later is asked once, and leads nowhere private."""
    answers = [["203.0.114.9"], ["127.0.0.1"]]
    asked: list[str] = []
    async with receiving() as receiver:
        port = int(receiver.url.rsplit(":", 1)[1].partition("/")[0])
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def resolve(host: str | None, *args: Any, **kwargs: Any) -> Any:
            if host != "rebinding.example.org":
                return await real(host, *args, **kwargs)
            asked.append(host)
            found = answers.pop(0) if answers else ["127.0.0.1"]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

        monkeypatch.setattr(webhooks, "DELIVERY_SECONDS", 0.3)
        monkeypatch.setattr(loop, "getaddrinfo", resolve, raising=False)
        with pytest.raises(NotDelivered):
            await post(f"http://rebinding.example.org:{port}/hook", allow_private=False)
    assert (asked, receiver.requests) == (["rebinding.example.org"], [])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120", 120.0), ("", None), ("soon", None), ("-5", None), ("٣", None), ("Wed, 21 Oct 1998 07:28:00 GMT", 0.0)],
)
def test_retry_after(text: str, seconds: float | None) -> None:
    """Seconds and dates are understood, everything else counts as nothing said."""
    assert read_retry_after({"retry-after": text}, NOW) == seconds
