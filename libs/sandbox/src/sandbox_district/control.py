"""The other side of the sandbox: let days go by, ask for trouble, and see the truth. For tests and demonstrations."""

from collections import Counter

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.access import Access
from sandbox_district.district import District
from sandbox_district.faults import AnyFault, Faults
from sandbox_district.oneroster_rest import BASE, RESOURCES, TOKEN_PATH

_FAULTS = msgspec.json.Decoder(list[AnyFault])


class Control:
    """The routes under /sandbox. They ask for no credentials, so they are for a server on loopback."""

    def __init__(self, district: District, faults: Faults, access: Access, requests: Counter[str]) -> None:
        self._district, self._faults, self._access, self._requests = district, faults, access, requests
        self.routes = [
            Route("/sandbox", self._describe, methods=["GET"]),
            Route("/sandbox/day", self._advance_day, methods=["POST"]),
            Route("/sandbox/faults", self._set_faults, methods=["POST"]),
            Route("/sandbox/faults", self._clear_faults, methods=["DELETE"]),
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
                    "base_url": origin + BASE,
                    "token_url": origin + TOKEN_PATH,
                    "client_id": self._access.client_id,
                    "client_secret": self._access.client_secret,
                    "collections": list(RESOURCES),
                    "authentication": ["OAuth 1.0a HMAC-SHA256", "OAuth 1.0a HMAC-SHA1", "OAuth 2 client credentials"],
                },
                "records": {name: len(ids) for name, ids in self._district.truth().items()},
                "faults": list(self._faults),
                "control": {
                    "POST /sandbox/day": "lets a day go by and answers what truly changed",
                    "POST /sandbox/faults": 'replaces the faults: [{"kind": "slow", "path": "/users", "seconds": 2}]',
                    "DELETE /sandbox/faults": "ends all faults",
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

    async def _tell_truth(self, _request: Request) -> Response:
        return _answer(self._district.truth())

    async def _count_requests(self, _request: Request) -> Response:
        return _answer(self._requests)


def _answer(content: object, status: int = 200) -> Response:
    body = msgspec.json.format(msgspec.json.encode(content, order="deterministic"), indent=2)
    return Response(body, status, media_type="application/json")
