"""What this machine can do at best: the two limits every sync is compared with, measured in the same run.

(a) `fetch`: get and decode every page in one process, with the gateway's HTTP client and decoder, and nothing else.
(b) `copy`: COPY all rows over two connections into empty tables of the same columns and indexes.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import io
import json
import time
from collections.abc import Iterator

import asyncpg
import httpx2
import uvloop

from bench.provider import BASE, TOKEN
from provider_gateway.providers._oneroster_shapes import PageDecoder
from roster_store.tables import TABLES

COLLECTIONS = ("orgs", "academicSessions", "courses", "classes", "users", "enrollments")
COPY_SECONDS = 1_800


async def measure_fetch(url: str, page_size: int, in_flight: int) -> dict[str, float]:
    """Seconds to fetch and decode everything, and how many records that was."""
    records = 0
    headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"}
    async with httpx2.AsyncClient(trust_env=False, timeout=60, headers=headers) as client:

        async def fetch(decoder: PageDecoder, offset: int) -> int:
            answer = await client.get(
                f"{url}{BASE}/{decoder.collection}", params={"limit": page_size, "offset": offset}
            )
            answer.raise_for_status()
            gc.disable()
            received = decoder.decode(answer.content).received
            gc.enable()
            return received

        began = time.perf_counter()
        totals = (await client.get(f"{url}/bench/counts")).json()
        work = iter(
            [
                (decoder, offset)
                for decoder in map(PageDecoder, COLLECTIONS)
                for offset in range(0, totals.get(decoder.collection, 0), page_size)
            ]
        )

        async def drain(pages: Iterator[tuple[PageDecoder, int]]) -> int:
            return sum([await fetch(decoder, offset) for decoder, offset in pages])

        records = sum(await asyncio.gather(*(drain(work) for _ in range(in_flight))))
        return {"seconds": time.perf_counter() - began, "records": records}


async def measure_copy(url: str) -> dict[str, float]:
    """Seconds to copy the whole roster into empty tables like its own, over two connections."""
    connections = [await asyncpg.connect(url, timeout=30) for _ in range(2)]
    try:
        tables = {}
        for connection in connections:
            await connection.execute("SET search_path = roster, public")
        for table in TABLES.values():
            rows = io.BytesIO()
            await connections[0].copy_from_table(
                table.name, schema_name="roster", output=rows, format="binary", timeout=COPY_SECONDS
            )
            await connections[0].execute(f"DROP TABLE IF EXISTS limit_{table.name}")
            await connections[0].execute(f"CREATE TABLE limit_{table.name} (LIKE {table.name} INCLUDING ALL)")
            tables[table.name] = rows
        await connections[0].execute("CHECKPOINT", timeout=COPY_SECONDS)
        halves = _halve({name: rows.getbuffer().nbytes for name, rows in tables.items()})

        async def copy(connection: asyncpg.Connection, names: list[str]) -> None:
            for name in names:
                tables[name].seek(0)
                await connection.copy_to_table(
                    f"limit_{name}", schema_name="roster", source=tables[name], format="binary", timeout=COPY_SECONDS
                )

        began = time.perf_counter()
        await asyncio.gather(*(copy(*pair) for pair in zip(connections, halves, strict=True)))
        seconds = time.perf_counter() - began
        for name in tables:
            await connections[0].execute(f"DROP TABLE limit_{name}")
        return {"seconds": seconds, "bytes": sum(rows.getbuffer().nbytes for rows in tables.values())}
    finally:
        for connection in connections:
            await connection.close(timeout=10)


def _halve(sizes: dict[str, int]) -> tuple[list[str], list[str]]:
    """Tables for each connection, as even as whole tables allow."""
    halves: tuple[list[str], list[str]] = ([], [])
    weights = [0, 0]
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        lighter = weights.index(min(weights))
        halves[lighter].append(name)
        weights[lighter] += sizes[name]
    return halves


def main() -> None:
    """Measure one limit and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("limit", choices=["fetch", "copy"])
    parser.add_argument("--url", required=True, help="the provider's address, or the database's")
    parser.add_argument("--page-size", type=int, default=2_000)
    parser.add_argument("--in-flight", type=int, default=4)
    given = parser.parse_args()
    work = (
        measure_fetch(given.url, given.page_size, given.in_flight)
        if given.limit == "fetch"
        else measure_copy(given.url)
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        print(json.dumps(runner.run(work)))


if __name__ == "__main__":
    main()
