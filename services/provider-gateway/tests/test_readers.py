"""Processes that read pages beside the event loop."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from datetime import date

import psutil
import pytest

from homeroom.codes import Code
from homeroom.messages import Options
from provider_gateway.failures import OwnTrouble, ProviderError
from provider_gateway.providers.oneroster import read_body
from provider_gateway.readers import Readers
from provider_gateway.scope import Scope

BODY = (
    b'{"orgs":[{"sourcedId":"1","status":"active","name":"North","type":"school"},{"sourcedId":"2","type":"school"}]}'
)


def read(body: bytes) -> tuple[str, str, bytes, object]:
    """What stands for `read_body` here, with the process it was run in."""
    page = read_body("town", "orgs", body, 2, Scope(Options(), date(2026, 9, 1)))
    return str(os.getpid()), str(page.received), page.canonical.encoded(0), page.refused[0].field


async def test_both_ways_read_the_same() -> None:
    """A page read in another process is the page read here, its refused records included."""
    async with Readers.open(1) as readers:
        here = read(BODY)
        there = await readers.run(read, BODY)

    assert here[1:] == there[1:] == ("2", b'{"sourcedId":"1","name":"North","type":"school"}', "name")
    assert here[0] == str(os.getpid()) != there[0]


async def test_errors_cross_whole() -> None:
    """What is wrong with a page is told with its code and sentence, wherever it was found."""
    async with Readers.open(1) as readers:
        with pytest.raises(ProviderError) as caught:
            await readers.run(read, b"<html>")

    assert caught.value.code is Code.PROV_BAD_PAYLOAD
    assert caught.value.detail


async def test_a_dead_reader_costs_one_attempt() -> None:
    """A reading process that is killed fails the fetch for another attempt, and the next page finds a new process."""
    async with Readers.open(1) as readers:
        victim = int((await readers.run(read, BODY))[0])
        os.kill(victim, signal.SIGKILL)
        await asyncio.sleep(0.5)
        with pytest.raises(OwnTrouble):
            await readers.run(read, BODY)
        assert int((await readers.run(read, BODY))[0]) != victim


def test_readers_end_with_their_worker() -> None:
    """When a worker is killed, its reading processes end by themselves."""
    script = (
        "import asyncio, sys, time\n"
        "from provider_gateway.readers import Readers\n"
        "async def main():\n"
        "    async with Readers.open(1) as readers:\n"
        "        print(await readers.run(__import__('os').getpid), flush=True)\n"
        "        time.sleep(60)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        reader = int(worker.stdout.readline())
        worker.kill()
    deadline = time.monotonic() + 10
    while psutil.pid_exists(reader) and psutil.Process(reader).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the reader outlived its worker"
        time.sleep(0.1)
