"""Little servers for tests of what is sent out: one that is sent webhooks, one that is sent mail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Receiver:
    """A little HTTP server that notes what it is sent, and answers as it is told."""

    url: str = ""
    status: int = 204
    extra: bytes = b""
    wait: float = 0
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n"))}
            body = await reader.readexactly(int(headers["content-length"]))
            self.requests.append((headers, body))
            await asyncio.sleep(self.wait)
            writer.write(f"HTTP/1.1 {self.status} So\r\n".encode() + self.extra + b"\r\n")
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def kinds(self) -> list[str]:
        """What it was told, in order."""
        return [json.loads(body)["type"] for _, body in self.requests]


@asynccontextmanager
async def receiving(**fields: Any) -> AsyncIterator[Receiver]:
    """A receiver on loopback; `fields` are its own."""
    receiver = Receiver(**fields)
    server = await asyncio.start_server(receiver.answer, "127.0.0.1", 0)
    receiver.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
    try:
        yield receiver
    finally:
        server.close()


@dataclass
class Mailbox:
    """A little SMTP server that takes what it is sent, unless it is told to refuse."""

    port: int = 0
    refuse: bytes = b""
    mails: list[tuple[str, bytes]] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        writer.write(b"220 here\r\n")
        to = ""
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"RCPT":
                to = line.decode().partition("<")[2].partition(">")[0]
                writer.write(self.refuse or b"250 fine\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go on\r\n")
                self.mails.append((to, (await reader.readuntil(b"\r\n.\r\n"))[:-5]))
                writer.write(b"250 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 fine\r\n")
        writer.close()


@asynccontextmanager
async def receiving_mail() -> AsyncIterator[Mailbox]:
    """A mailbox on loopback."""
    box = Mailbox()
    server = await asyncio.start_server(box.answer, "127.0.0.1", 0)
    box.port = server.sockets[0].getsockname()[1]
    try:
        yield box
    finally:
        server.close()
