"""A product made with a certified OpenID client signs people in with Homeroom, over HTTP, and hears of their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import uvicorn
from counterparts.npm import node_modules, running_script
from fastapi import FastAPI
from roster_stand_in import District, PlayedRoster
from signing_in import Browser, make_product, sign_in_pupil

from homeroom.clock import SystemClock
from sso.provider.logout_deliveries import LogoutDeliveries
from sso.settings import Settings


class _QuietServer(uvicorn.Server):
    """A server that leaves this process's signals alone."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        """Do nothing about them."""
        yield


@contextlib.asynccontextmanager
async def _listening(app: FastAPI, port: int) -> AsyncIterator[None]:
    """An app that is open already, on a port."""
    config = uvicorn.Config(app, host="127.0.0.1", port=port, lifespan="off", log_config=None, access_log=False)
    server = _QuietServer(config)
    serving = asyncio.create_task(server.serve())
    try:
        while not server.started:
            await asyncio.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        await asyncio.wait_for(serving, 10)


async def _free_port() -> int:
    server = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0)
    port: int = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    return port


async def _ask(origin: str, path: str) -> Any:
    async with httpx2.AsyncClient(timeout=20, trust_env=False) as client:
        answer = await client.get(f"{origin}{path}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def clock() -> SystemClock:
    """The machine's clock, which the client goes by as well."""
    return SystemClock()


@pytest.fixture
async def settings(settings: Settings) -> Settings:
    """Settings of an sso that listens on loopback."""
    issuer = f"http://127.0.0.1:{await _free_port()}"
    return settings.model_copy(update={"issuer": issuer, "allow_private_endpoints": True})


@pytest.mark.parametrize("public", [False, True])
async def test_a_certified_client_signs_people_in(
    service: Any, settings: Settings, district: District, roster: PlayedRoster, public: bool
) -> None:
    """Discovery, PKCE, ID token, userinfo, refresh, logout and its token are as the standards say, key or no key."""
    modules = await asyncio.to_thread(node_modules, "openid-client")
    issuer = settings.issuer
    async with _listening(service.app, int(issuer.rpartition(":")[2])):
        browser = await sign_in_pupil(service, settings, district, roster, given="Zoë", classes=("c1",))
        product = await make_product(service, district.product_id, public=public, refresh_tokens=True)
        secret = "" if public else product.secret
        with running_script("openid_client.mjs", modules, issuer, product.client_id, secret) as origin:
            await _register(service, product.client_id, origin, public=public)
            learned = await _sign_in(origin, browser)
            assert learned["userinfo"]["name"] == "Zoë Berg"
            assert learned["userinfo"].items() <= learned["claims"].items()
            assert learned["claims"]["classes"][0]["sourced_id"] == "c1"
            again = await _ask(origin, "/refresh")
            assert again == {"claims": again["claims"], "rotated": True}
            assert again["claims"]["sub"] == learned["claims"]["sub"]
            if not public:
                assert (await _ask(origin, "/introspect"))["active"] is True
            ended = await browser.get((await _ask(origin, "/end"))["url"])
            assert ended.headers["location"] == f"{origin}/bye?state=over"
            state = service.app.state
            async with LogoutDeliveries.open(
                service.database, state.relying_parties, state.signing, allow_private=True
            ) as deliveries:
                assert await deliveries.tell_due() == 1
            [told] = await _ask(origin, "/told")
            assert {name: told[name] for name in ("sub", "sid")} == {
                name: learned["claims"][name] for name in ("sub", "sid")
            }
            assert await service.database.fetchval("SELECT count(*) FROM participation") == 0


async def _register(service: Any, client_id: str, origin: str, *, public: bool) -> None:
    body = {
        "redirect_uris": [f"{origin}/signed-in"],
        "post_logout_redirect_uris": [f"{origin}/bye"],
        "backchannel_logout_uri": f"{origin}/out",
        "refresh_tokens": True,
        "public": public,
    }
    headers = await service.boss()
    put = await service.client.put(f"/v1/relying-parties/{client_id}", headers=headers, json=body)
    assert put.status_code == 200, put.text


async def _sign_in(origin: str, browser: Browser) -> Any:
    """Let the product sign the browser's person in; what it learned."""
    back = (await browser.get((await _ask(origin, "/begin"))["url"])).headers["location"]
    assert back.startswith(f"{origin}/signed-in?code=")
    return await _ask(origin, back.removeprefix(origin))
