"""The other side of the sandbox: let days go by, ask for trouble, and see the truth. For tests and demonstrations."""

from collections import Counter
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Literal

import msgspec
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from sandbox_district.access import Access
from sandbox_district.classlink import ClassLinkOrder
from sandbox_district.clever import CleverOrder
from sandbox_district.district import District
from sandbox_district.faults import AnyFault, Faults
from sandbox_district.marketplace import Marketplace, describe_faces
from sandbox_district.oneroster_csv import write_set
from sandbox_district.oneroster_resources import RESOURCES
from sandbox_district.oneroster_rest import TOKEN_PATH
from sandbox_district.oneroster_versions import BASE_1P1, BASE_1P2
from sandbox_district.portals.control import ORDERS, describe_portals

_FAULTS = msgspec.json.Decoder(list[AnyFault])


class _CsvWish(msgspec.Struct, forbid_unknown_fields=True):
    version: Literal["1.1", "1.2"] = "1.1"
    kind: Literal["bulk", "delta"] = "bulk"
    since_day: int = 0


class Control:
    """The routes under /sandbox. They ask for no credentials, so they are for a server on loopback."""

    def __init__(
        self, district: District, faults: Faults, access: Access, requests: Counter[str], faces: Marketplace
    ) -> None:
        self._district, self._faults, self._access, self._requests = district, faults, access, requests
        self._faces = faces
        self.routes = [
            Route("/sandbox", self._describe, methods=["GET"]),
            Route("/sandbox/day", self._advance_day, methods=["POST"]),
            Route("/sandbox/faults", self._set_faults, methods=["POST"]),
            Route("/sandbox/faults", self._clear_faults, methods=["DELETE"]),
            Route("/sandbox/csv", self._write_csv, methods=["GET"]),
            Route("/sandbox/clever", self._order_clever, methods=["POST"]),
            Route("/sandbox/classlink", self._order_classlink, methods=["POST"]),
            Route("/sandbox/truth", self._tell_truth, methods=["GET"]),
            Route("/sandbox/requests", self._count_requests, methods=["GET"]),
        ]

    async def _describe(self, request: Request) -> Response:
        origin = str(request.base_url).rstrip("/")
        return _answer(
            {
                "district": self._district.collections["orgs"]["100"]["name"],
                "day": self._district.day,
                "date": self._district.today,
                "oneroster": {
                    "base_url": origin + BASE_1P1,
                    "token_url": origin + TOKEN_PATH,
                    "client_id": self._access.client_id,
                    "client_secret": self._access.client_secret,
                    "collections": list(RESOURCES),
                    "authentication": ["OAuth 1.0a HMAC-SHA256", "OAuth 1.0a HMAC-SHA1", "OAuth 2 client credentials"],
                },
                "oneroster_1p2": {
                    "base_url": origin + BASE_1P2,
                    "token_url": origin + TOKEN_PATH,
                    "client_id": self._access.client_id,
                    "client_secret": self._access.client_secret,
                    "collections": list(RESOURCES),
                    "authentication": ["OAuth 2 client credentials"],
                },
                **describe_faces(self._faces, origin),
                "portals": describe_portals(origin, self._faces.clever_district_id),
                "records": {name: len(ids) for name, ids in self._district.truth().items()},
                "faults": list(self._faults),
                "control": {
                    "POST /sandbox/day": "lets a day go by and answers what truly changed",
                    "POST /sandbox/faults": 'replaces the faults: [{"kind": "slow", "path": "/users", "seconds": 2}]',
                    "DELETE /sandbox/faults": "ends all faults",
                    "GET /sandbox/csv?version=1.1&kind=bulk": "a OneRoster CSV set as a zip; version 1.1 or 1.2, "
                    "kind bulk, or delta with since_day=0",
                    "POST /sandbox/clever": 'changes what is named: {"state": "paused", "rotate_token": true, '
                    '"purge_events": true, "events": 404, "rate_limit": 60}',
                    "POST /sandbox/classlink": 'changes what is named: {"enabled": false, "rotate_bearer": true, '
                    '"new_revision": true}',
                    **ORDERS,
                    "GET /sandbox/truth": "the sourcedIds that are really there",
                    "GET /sandbox/requests": "how often each path was asked for",
                },
            }
        )

    async def _advance_day(self, _request: Request) -> Response:
        return _answer(self._district.advance_day())

    async def _set_faults(self, request: Request) -> Response:
        try:
            self._faults.replace(*_FAULTS.decode(await request.body()))
        except msgspec.ValidationError as error:
            return _answer({"error": str(error)}, 400)
        return _answer(list(self._faults))

    async def _clear_faults(self, _request: Request) -> Response:
        self._faults.replace()
        return Response(status_code=204)

    async def _write_csv(self, request: Request) -> Response:
        try:
            wish = msgspec.convert(dict(request.query_params), _CsvWish, strict=False)
        except msgspec.ValidationError as error:
            return _answer({"error": str(error)}, 400)
        folder = Path(mkdtemp(prefix="sandbox-csv-"))
        # Written in one go, without letting other requests in between: no day may go by in the middle of it.
        write_set(self._district, folder / "set.zip", version=wish.version, kind=wish.kind, since_day=wish.since_day)
        name = f"oneroster-{wish.version}-{wish.kind}-day-{self._district.day}.zip"
        return FileResponse(
            folder / "set.zip", media_type="application/zip", filename=name, background=BackgroundTask(rmtree, folder)
        )

    async def _order_clever(self, request: Request) -> Response:
        try:
            self._faces.clever.obey(msgspec.json.decode(await request.body(), type=CleverOrder))
        except msgspec.MsgspecError as error:
            return _answer({"error": str(error)}, 400)
        return Response(status_code=204)

    async def _order_classlink(self, request: Request) -> Response:
        try:
            self._faces.classlink.obey(msgspec.json.decode(await request.body(), type=ClassLinkOrder))
        except msgspec.MsgspecError as error:
            return _answer({"error": str(error)}, 400)
        return Response(status_code=204)

    async def _tell_truth(self, _request: Request) -> Response:
        return _answer(self._district.truth())

    async def _count_requests(self, _request: Request) -> Response:
        return _answer(self._requests)


def _answer(content: object, status: int = 200) -> Response:
    body = msgspec.json.format(msgspec.json.encode(content, order="deterministic"), indent=2)
    return Response(body, status, media_type="application/json")
