"""Launches from a portal's tile to a product's ID token: how many a second, and how long each takes.

`python -m bench.launches` starts the whole installation with its sandbox, keeps every process of it (Postgres, sso, the
store, the sandbox that plays the portal) on two cores, and plays browsers and the product on the others. A
launch is everything from the click on: to the portal and back, who is it, the product's own sign-in, the code, the
tokens. Every ID token must name the pupil who clicked. It fails below 150 launches a second, or if at 50 a second the
99th percentile is above 250 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import os
import re
import secrets
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urljoin, urlsplit

import httpx2
import msgspec
import psutil
import uvloop
from rich.console import Console
from rich.table import Table

from bench.run import Meter
from homeroom_local.sign_in_setup import SandboxAdmin
from homeroom_local.stack import Stack, free_port, running_stack

WANTED_RATE = 150.0
WANTED_P99_MS = 250.0
PACE = 50.0
CORES = 2
AT_ONCE = 24
SETTLE_SECONDS = 3

console = Console(stderr=True, width=110)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def find(self, name: str) -> str:
        """A header. Raises LookupError."""
        found = next((value for known, value in self.headers if known == name), None)
        if found is None:
            title = re.search(r"<h1>(.*?)</h1>", self.body.decode("utf-8", "replace"))
            raise LookupError(f"no {name}: {self.status} {title[1] if title else ''}")
        return found


class Wire:
    """The least of HTTP: a full client would need as much of the machine as what is measured."""

    def __init__(self) -> None:
        self._idle: dict[str, list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]] = {}

    async def ask(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """One request, on a connection that is kept."""
        parts = urlsplit(url)
        idle = self._idle.setdefault(parts.netloc, [])
        host, _, port = parts.netloc.partition(":")
        reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        while reader.at_eof():  # it was kept for longer than the other side wanted
            writer.close()
            reader, writer = idle.pop() if idle else await asyncio.open_connection(host, int(port))
        lines = [f"{method} {parts.path}{'?' + parts.query if parts.query else ''} HTTP/1.1", f"host: {parts.netloc}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write(("\r\n".join([*lines, f"content-length: {len(body)}", "", ""])).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        said = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in head[1:] if line)]
        length = next((int(value) for name, value in said if name == "content-length"), 0)
        answer = Answer(int(head[0].split()[1]), said, await reader.readexactly(length))
        idle.append((reader, writer))
        return answer


@dataclass
class Launcher:
    """Plays the browsers of pupils, and the product they open."""

    stack: Stack
    tile: str
    client_id: str
    client_secret: str
    redirect_uri: str
    pupils: list[tuple[str, str]]
    """(sourcedId, cookie at the portal)"""
    copies: Iterator[str]
    """The addresses of sso's copies, in turn."""
    wire: Wire = field(default_factory=Wire)
    trouble: Counter[str] = field(default_factory=Counter)

    def _straight(self, url: str) -> str:
        """Ask one of sso's copies: in production nginx stands before them, here a small proxy of this process would."""
        return url.replace(self.stack.origin, next(self.copies), 1)

    async def launch(self, pupil: tuple[str, str]) -> float | None:
        """One launch, from a browser that was not here before; its seconds, or None if it went wrong."""
        began = time.perf_counter()
        try:
            async with asyncio.timeout(20):
                claims = await self._launch(pupil[1])
        except (OSError, LookupError, TimeoutError, EOFError) as error:
            self.trouble[f"{type(error).__name__}: {error}"[:80]] += 1
            return None
        if claims["sourced_id"] != pupil[0]:
            self.trouble["somebody else"] += 1
            return None
        return time.perf_counter() - began

    async def _launch(self, portal_cookie: str) -> dict[str, Any]:
        """What the ID token says."""
        cookies = {"sandbox-launchpad": portal_cookie}
        url = self.tile
        for _ in ("to the portal", "back", "to the product"):
            url = await self._go(url, cookies)
        verifier = secrets.token_urlsafe(40)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": self.redirect_uri,
            "scope": "openid profile roster",
            "state": secrets.token_urlsafe(16),
            "nonce": secrets.token_urlsafe(16),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
            "login_hint": parse_qs(urlsplit(url).query)["login_hint"][0],
        }
        url = await self._go(f"{self.stack.origin}/oauth2/authorize?{urlencode(asked)}", cookies)
        form = {
            "grant_type": "authorization_code",
            "code": parse_qs(urlsplit(url).query)["code"][0],
            "redirect_uri": self.redirect_uri,
            "code_verifier": verifier,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
        }
        headers = {"content-type": "application/x-www-form-urlencoded"}
        answer = await self.wire.ask("POST", f"{next(self.copies)}/oauth2/token", headers, urlencode(form).encode())
        payload = msgspec.json.decode(answer.body)["id_token"].split(".")[1]
        claims: dict[str, Any] = msgspec.json.decode(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return claims

    async def _go(self, url: str, cookies: dict[str, str]) -> str:
        """Follow one redirect."""
        header = {"cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        answer = await self.wire.ask("GET", self._straight(url), header)
        for line in (value for name, value in answer.headers if name == "set-cookie"):
            name, _, rest = line.partition("=")
            cookies[name] = rest.partition(";")[0]
        return urljoin(url, answer.find("location"))


async def prepare(stack: AsyncExitStack, running: Stack, pupils: int, copies: int = 1) -> Launcher:
    """A district with its roster, a portal and a product, and pupils who are signed in at the portal."""
    admin = await SandboxAdmin.open(stack, running)
    organization = await admin.client.create_organization("Lake Verity")
    face = admin.described["oneroster"]
    credentials = {name: face[name] for name in ("client_id", "client_secret")}
    integration = await admin.client.create_integration(
        organization, {"endpoint_url": face["base_url"], "auth": "oauth1", **credentials}
    )
    run = await admin.client.sync(integration)
    if run["state"] != "succeeded":
        msg = f"the roster did not arrive: {run['code']}"
        raise RuntimeError(msg)
    product, client_id, client_secret = await admin.add_product(organization)
    door = await admin.connect_classlink(organization, integration, product)
    await admin.introduce_door("classlink", door)
    portal = (await admin.client.call("GET", door.path))["portal"]
    users = await admin.client.list_records("students", integration)
    students = [user["sourcedId"] for user in users if user["enabledUser"] in (True, "true")][:pupils]
    known = []
    for student in students:
        answer = await admin.district.post("/launchpad/sign-in", data={"person": student})
        known.append((student, answer.cookies["sandbox-launchpad"]))
        admin.district.cookies.clear()
    redirect_uri = admin.portals["product"]["redirect_uri"]
    addresses = [running.urls["sso"], *[await start_copy(stack, running, number) for number in range(1, copies)]]
    return Launcher(running, portal["launch_url"], client_id, client_secret, redirect_uri, known, cycle(addresses))


async def start_copy(stack: AsyncExitStack, running: Stack, number: int) -> str:
    """One more process of sso beside the first; its address."""
    first = running.services["sso api"]
    port = free_port()
    copy = replace(
        first,
        name=f"sso api, copy {number}",
        environment=first.environment | {"HOMEROOM_PORT": str(port)},
        process=None,
    )
    running.services[copy.name] = copy
    serving = asyncio.create_task(copy.run())
    stack.push_async_callback(asyncio.wait, [serving], timeout=20)
    stack.push_async_callback(copy.stop)
    async with httpx2.AsyncClient(timeout=5, trust_env=False) as client, asyncio.timeout(30):
        while True:
            try:
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return f"http://127.0.0.1:{port}"
            except httpx2.TransportError:
                await asyncio.sleep(0.1)


def confine(running: Stack, cores: list[int]) -> None:
    """Keep every process of the installation on some cores, and this one on the others."""
    pids = [service.process.pid for service in running.services.values() if service.process]
    if running.postgres is not None:
        pids.append(running.postgres.pid)
    for pid in pids:
        for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
            process.cpu_affinity(cores)
    others = [core for core in os.sched_getaffinity(0) if core not in cores]
    os.sched_setaffinity(0, others or cores)


async def measure_rate(launcher: Launcher, seconds: float) -> tuple[float, list[float]]:
    """As many launches as there can be, some at once: launches a second, and how long each took."""
    taken: list[float] = []
    pupils = cycle(launcher.pupils)
    until = time.perf_counter() + seconds

    async def work() -> None:
        while time.perf_counter() < until:
            if (lasted := await launcher.launch(next(pupils))) is not None:
                taken.append(lasted)

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return len(taken) / (time.perf_counter() - began), taken


async def measure_pace(launcher: Launcher, seconds: float) -> list[float]:
    """So many launches a second, whether earlier ones are done or not: how long each took."""
    pupils = cycle(launcher.pupils)
    under_way = []
    began = time.perf_counter()
    for number in range(int(PACE * seconds)):
        await asyncio.sleep(max(0.0, began + number / PACE - time.perf_counter()))
        under_way.append(asyncio.create_task(launcher.launch(next(pupils))))
    return [lasted for lasted in await asyncio.gather(*under_way) if lasted is not None]


def percentile(taken: list[float], share: float) -> float:
    """In milliseconds."""
    return sorted(taken)[min(len(taken) - 1, int(len(taken) * share))] * 1000


async def main(seconds: float, pupils: int, copies: int) -> int:
    """Measure, print, and say whether it is quick enough."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    with tempfile.TemporaryDirectory(prefix="homeroom-bench-") as folder:
        async with AsyncExitStack() as stack:
            running = await stack.enter_async_context(running_stack(Path(folder)))
            launcher = await prepare(stack, running, pupils, copies)
            confine(running, cores)
            await asyncio.sleep(SETTLE_SECONDS)
            await measure_rate(launcher, 5)
            meter = Meter(running, None)
            before = meter.cpu()
            rate, busy = await measure_rate(launcher, seconds)
            used = {name: value - before[name] for name, value in meter.cpu().items()}
            paced = await measure_pace(launcher, seconds)
    return report(rate, busy, paced, used, launcher)


def report(rate: float, busy: list[float], paced: list[float], used: dict[str, float], launcher: Launcher) -> int:
    """Print what was measured; 1 if it is not as wanted."""
    for what, often in launcher.trouble.items():
        console.print(f"went wrong {often} times: {what}")
    if not busy or not paced:
        console.print("no launch ended as it should")
        return 1
    table = Table(title=f"Launches, everything of Homeroom and the portal on {CORES} cores", title_justify="left")
    for heading in ("", "launches", "median ms", "p99 ms", "wanted"):
        table.add_column(heading, justify="left" if not heading else "right")
    for name, taken, wanted in (
        (f"as many as there can be: {rate:.0f}/s", busy, f"{WANTED_RATE:.0f}/s"),
        (f"{PACE:.0f}/s", paced, f"p99 {WANTED_P99_MS:.0f} ms"),
    ):
        table.add_row(
            name, f"{len(taken):,}", f"{statistics.median(taken) * 1000:.0f}", f"{percentile(taken, 0.99):.0f}", wanted
        )
    console.print(table)
    each: Any = {name: f"{value / len(busy) * 1000:.2f}" for name, value in used.items() if value > 0.1}
    console.print("CPU ms a launch:", ", ".join(f"{name} {value}" for name, value in each.items()))
    good = rate >= WANTED_RATE and percentile(paced, 0.99) <= WANTED_P99_MS and not launcher.trouble
    console.print("as wanted" if good else "NOT as wanted")
    return 0 if good else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser("python -m bench.launches", description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pupils", type=int, default=400)
    parser.add_argument(
        "--copies", type=int, default=1, help="processes of sso; more than one only pays off with more cores"
    )
    given = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sys.exit(runner.run(main(given.seconds, given.pupils, given.copies)))
