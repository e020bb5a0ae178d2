"""A OneRoster provider that is never the slow part: `python -m bench.provider --students 50000`.

It speaks just enough HTTP/1.1 to serve slices of a rendered district: lists with limit and offset, single records, and
a token. A bearer token must be the one it gives out; OAuth 1.0a signatures are taken on trust. Two more paths are for
whoever measures: `POST /bench/day` changes one record in a hundred and answers the true counts, `GET /bench/counts`
answers how many records there are.
"""

import argparse
import asyncio
import socket
import time
from http import HTTPStatus
from pathlib import Path
from typing import Final, cast
from urllib.parse import parse_qs, unquote, urlsplit

import msgspec
import uvloop

from bench.generate import LargeDistrict

BASE: Final = "/ims/oneroster/v1p1"
TOKEN: Final = "measured-by-nobody"  # noqa: S105 - protects nothing: it is given to whoever asks
CLIENT_ID: Final = "bench"
CLIENT_SECRET: Final = "bench"  # noqa: S105 - as above
_SINGULAR: Final = {"classes": "class", "demographics": "demographics"}
_DEFAULT_LIMIT: Final = 100
_MAX_LIMIT: Final = 10_000
_MAX_HEAD: Final = 65_536
Body = list[bytes | memoryview]


class Answer(msgspec.Struct, frozen=True):
    """A status, a body in pieces that are sent without being joined, and how many records the collection has."""

    status: HTTPStatus
    body: Body
    total: int | None = None


class Provider:
    """Answers requests about a district."""

    def __init__(self, district: LargeDistrict) -> None:
        self._district = district
        self._days = 0

    def answer(self, method: str, target: str, authorization: str) -> Answer:
        """The answer to a request."""
        url = urlsplit(target)
        match method, url.path:
            case "POST", "/oauth/token":
                return _answer_json({"access_token": TOKEN, "token_type": "Bearer", "expires_in": 86_400})
            case "POST", "/bench/day":
                self._days += 1
                return _answer_json(self._district.one_percent_day(self._days))
            case "GET", "/bench/counts":
                return _answer_json(self._district.counts())
            case "GET", path if path.startswith(f"{BASE}/"):
                if authorization != f"Bearer {TOKEN}" and not authorization.startswith("OAuth "):
                    return _refuse(HTTPStatus.UNAUTHORIZED)
                collection, _, sourced_id = path.removeprefix(f"{BASE}/").partition("/")
                return self._read(collection, unquote(sourced_id), url.query)
        return _refuse(HTTPStatus.NOT_FOUND)

    def _read(self, collection: str, sourced_id: str, query: str) -> Answer:
        shelf = self._district.shelves.get(collection)
        if shelf is None:
            return _refuse(HTTPStatus.NOT_FOUND)
        if sourced_id:
            record = shelf.find(sourced_id)
            wrapper = _SINGULAR.get(collection, collection.removesuffix("s"))
            return _refuse(HTTPStatus.NOT_FOUND) if record is None else _wrap(wrapper, b"", record, b"}")
        parameters = parse_qs(query)
        # What a filter on dates would leave out is not known here, and leaving it unheeded would be a wrong answer.
        if any("dateLastModified" in text for text in parameters.get("filter", [])):
            return _refuse(HTTPStatus.BAD_REQUEST)
        try:
            limit = min(int(parameters.get("limit", [_DEFAULT_LIMIT])[0]), _MAX_LIMIT)
            offset = int(parameters.get("offset", [0])[0])
        except ValueError:
            return _refuse(HTTPStatus.BAD_REQUEST)
        if limit < 1 or offset < 0:
            return _refuse(HTTPStatus.BAD_REQUEST)
        return _wrap(collection, b"[", shelf.page(offset, limit), b"]}", len(shelf))


class Connection(asyncio.Protocol):
    """One client's connection: requests in, answers out in the same order, kept open."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._received = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without being of the class

    def data_received(self, data: bytes) -> None:
        """Answer every request that is there as a whole."""
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            request_line, *lines = self._received[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            size = end + 4 + int(headers.get("content-length", "0"))
            if len(self._received) < size:
                return
            self._received = self._received[size:]
            method, target, _ = request_line.split(" ", 2)
            self._send(self._provider.answer(method, target, headers.get("authorization", "")))
            if headers.get("connection", "").lower() == "close":
                self._transport.close()
                return
        if len(self._received) > _MAX_HEAD:
            self._transport.close()

    def _send(self, answer: Answer) -> None:
        count = "" if answer.total is None else f"x-total-count: {answer.total}\r\n"
        head = (
            f"HTTP/1.1 {answer.status.value} {answer.status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {sum(map(len, answer.body))}\r\n{count}\r\n"
        )
        self._transport.writelines([head.encode(), *answer.body])


async def serve(district: LargeDistrict, listener: socket.socket) -> None:
    """Serve a district until cancelled."""
    provider = Provider(district)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), sock=listener)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Read the arguments, make the district, serve it."""
    parser = argparse.ArgumentParser(prog="bench.provider", description="A fast OneRoster provider to measure against.")
    parser.add_argument("--students", type=int, default=50_000, help="how many students the district has")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--port-file", type=Path, help="file to write the port to, once it listens")
    arguments = parser.parse_args()
    begun = time.perf_counter()
    district = LargeDistrict(arguments.students)
    size = sum(shelf.size for shelf in district.shelves.values())
    print(f"{len(district):,} records, {size / 1e6:,.0f} MB, made in {time.perf_counter() - begun:.1f} s", flush=True)
    listener = socket.create_server(("127.0.0.1", arguments.port))
    port = listener.getsockname()[1]
    if arguments.port_file:
        arguments.port_file.write_text(str(port), "utf-8")
    print(f"http://127.0.0.1:{port}{BASE}", flush=True)
    try:
        uvloop.run(serve(district, listener))
    except KeyboardInterrupt:
        print("stopped")


def _wrap(wrapper: str, opening: bytes, content: memoryview, closing: bytes, total: int | None = None) -> Answer:
    return Answer(HTTPStatus.OK, [f'{{"{wrapper}":'.encode() + opening, content, closing], total)


def _answer_json(content: object) -> Answer:
    return Answer(HTTPStatus.OK, [msgspec.json.encode(content)])


def _refuse(status: HTTPStatus) -> Answer:
    body = {"imsx_codeMajor": "failure", "imsx_severity": "error", "imsx_description": status.phrase}
    return Answer(status, [msgspec.json.encode(body)])


if __name__ == "__main__":
    main()
