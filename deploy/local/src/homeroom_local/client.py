"""Homeroom's REST API as an outsider uses it: what the demo and the end-to-end tests speak."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2

ENDED = frozenset({"held", "succeeded", "partial", "failed", "cancelled"})
POLL_SECONDS = 0.1

Json = dict[str, Any]


class ApiError(Exception):
    """The API refused; the text has its status, code and detail."""

    def __init__(self, answer: httpx2.Response) -> None:
        try:
            problem = answer.json()
        except ValueError:
            problem = {}
        self.status = answer.status_code
        self.code = problem.get("code")
        super().__init__(f"{answer.status_code} {self.code}: {problem.get('detail')}")


class HomeroomClient:
    """A caller with a token."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    @classmethod
    @asynccontextmanager
    async def open(cls, origin: str, token: str) -> AsyncIterator[HomeroomClient]:
        """Open a client for an origin."""
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx2.AsyncClient(base_url=origin, headers=headers, timeout=30, trust_env=False) as http:
            yield cls(http)

    async def call(self, method: str, path: str, **parts: Any) -> Any:
        """One call; its JSON answer. Raises ApiError."""
        answer = await self._http.request(method, path, **parts)
        if answer.is_error:
            raise ApiError(answer)
        return answer.json() if answer.content else None

    async def create_organization(self, name: str) -> str:
        """Create a district and return its id."""
        return str((await self.call("POST", "/v1/organizations", json={"name": name}))["id"])

    async def create_integration(self, organization_id: str, connection: Json, **body: Any) -> str:
        """Create an integration, by default one of OneRoster, and return its id."""
        body = {
            "organization_id": organization_id,
            "name": "Rosters",
            "provider": "oneroster",
            "region": "us",
            "connection": connection,
            **body,
        }
        return str((await self.call("POST", "/v1/integrations", json=body))["id"])

    async def start_run(self, integration_id: str, mode: str = "auto") -> str:
        """Run now; the run's id."""
        return str((await self.call("POST", f"/v1/integrations/{integration_id}/runs", json={"mode": mode}))["run_id"])

    async def get_run(self, run_id: str) -> Json:
        """A run as it is now."""
        run: Json = await self.call("GET", f"/v1/runs/{run_id}")
        return run

    async def wait_for_run(
        self, run_id: str, *, seconds: float = 120, on_look: Callable[[Json], None] | None = None
    ) -> Json:
        """Wait until a run has ended; raises TimeoutError if it does not in time."""
        async with asyncio.timeout(seconds):
            while True:
                run = await self.get_run(run_id)
                if on_look:
                    on_look(run)
                if run["state"] in ENDED:
                    return run
                await asyncio.sleep(POLL_SECONDS)

    async def sync(self, integration_id: str, *, mode: str = "auto", **options: Any) -> Json:
        """Run now and wait for the end."""
        return await self.wait_for_run(await self.start_run(integration_id, mode), **options)

    async def list_records(self, collection: str, integration_id: str, limit: int = 1_000) -> list[Json]:
        """Everything of a OneRoster collection, page by page."""
        found: list[Json] = []
        while True:
            answer = await self._http.get(
                f"/ims/oneroster/v1p1/{collection}",
                params={"integration": integration_id, "limit": limit, "offset": len(found)},
            )
            if answer.is_error:
                raise ApiError(answer)
            (page,) = answer.json().values()
            if not page:
                return found
            found += page

    async def read_feed(self, cursor: str | None = None, **narrow: str) -> tuple[list[Json], str]:
        """All events of the change feed after a cursor, and the cursor to go on from."""
        events: list[Json] = []
        while True:
            page = await self.call("GET", "/v1/changes", params={"cursor": cursor or "", "limit": 5_000, **narrow})
            events += page["events"]
            cursor = page["cursor"]
            if not page["more"]:
                return events, cursor
