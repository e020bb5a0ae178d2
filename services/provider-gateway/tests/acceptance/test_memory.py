"""Memory stays bounded by settings, whatever the size of the district."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from faces import FACES, Face

from conftest import View
from provider_gateway.execution import Execution
from sandbox_district import District

STUDENTS = (400, 1600)
PAGE = 100
KEYS_BYTES = 450
"""What may be kept of each record: its key and fingerprint, twice while they are sorted, and the stream they come in,
which the store that plays along here makes in this very process."""
ONE_OF_EACH = tuple({face.kind: face for face in FACES}.values())


@contextmanager
def sandbox_process(students: int, folder: Path) -> Iterator[str]:
    """A sandbox in a process of its own, whose memory is not counted; gives its origin."""
    port_file = folder / "port"
    port_file.unlink(missing_ok=True)
    command = [sys.executable, "-m", "sandbox_district", "--students", str(students), "--port-file", str(port_file)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            until = time.monotonic() + 30
            while not (port_file.exists() and port_file.read_text()):
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port_file.read_text()}"
        finally:
            process.terminate()


async def measure(execution: Execution) -> tuple[int, int]:
    """The peak of a first sync in bytes, and how many records it saw."""
    gc.collect()
    tracemalloc.start()
    try:
        await execution.start()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert execution._result is not None
    return peak, sum(counts.served for counts in execution._tally.collections.values())


@pytest.mark.parametrize("kind", ONE_OF_EACH, ids=lambda face: face.name)
async def test_memory_is_bounded(gateway: Any, kind: Face, tmp_path: Path) -> None:
    """A district four times as large takes no more memory than the keys of its further records."""
    peaks: list[tuple[int, int]] = []
    for students in (STUDENTS[0], *STUDENTS):  # the first time warms up
        with sandbox_process(students, tmp_path) as origin:
            async with httpx2.AsyncClient(trust_env=False) as http:
                told = (await http.get(f"{origin}/sandbox")).json()
                # Some faces ask for pages that a small district never fills.
                clamp = {"kind": "clamp", "path": kind.people.rpartition("/")[0] + "/", "limit": PAGE}
                (await http.post(f"{origin}/sandbox/faults", json=[clamp])).raise_for_status()
            district = District(1, students if kind.files else 0)
            view = View(gateway, district, told, kind, tmp_path)
            execution = view.execution(page_size=PAGE, pages_in_flight=2)
            del district, view.district
            peaks.append(await measure(execution))
    (small, few), (large, many) = peaks[1:]
    assert many > 3 * few
    assert large - small < KEYS_BYTES * (many - few), (small, few, large, many)
