"""An identity provider nobody here wrote, pysaml2: it reads our metadata and requests, and we believe what it signs."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from connecting import make_certificate, make_connection, make_key, to_pem
from fastapi import FastAPI
from roster_stand_in import PlayedRoster, make_district
from saml_place import read_request

from homeroom.testing.tokens import calling
from sso.app import create
from sso.launch.sessions import Session
from sso.saml.metadata import read_metadata
from sso.settings import Settings

SCRIPT = Path(__file__).parent / "counterparts" / "pysaml2_idp.py"
DEADLINE = 60


class Counterpart:
    """pysaml2, in a process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, do: str, **said: Any) -> dict[str, str]:
        """Have it do something."""
        reads, writes = self._process.stdout, self._process.stdin
        assert reads is not None
        assert writes is not None
        writes.write(json.dumps({"do": do, **said}).encode() + b"\n")
        await writes.drain()
        line = await asyncio.wait_for(reads.readline(), DEADLINE)
        assert line, "pysaml2 ended; its error is above"
        answer: dict[str, str] = json.loads(line)
        return answer


@asynccontextmanager
async def run_counterpart(folder: Path) -> AsyncIterator[Counterpart]:
    """It runs as long as this; its own warnings are its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        str(SCRIPT),
        str(folder),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Counterpart(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), DEADLINE)
        except TimeoutError:
            process.kill()


@pytest.fixture
def xmlsec() -> None:
    """What pysaml2 signs with."""
    if shutil.which("xmlsec1") is None:
        if os.environ.get("HOMEROOM_REQUIRE_COUNTERPARTS") == "1":
            pytest.fail("xmlsec1 is missing, and counterparts must run")
        pytest.skip("xmlsec1 is not installed (Debian: apt install xmlsec1)")


async def connect(app: FastAPI, settings: Settings, roster: PlayedRoster, folder: Path) -> UUID:
    """A connection whose other side is not known yet, and our metadata for it in the folder."""
    district = await make_district(app.state.database)
    roster.add(district.integration_id, "user-1", "Ada", "Berg")
    upstream_id, _ = await make_connection(
        app.state.database,
        settings,
        kind="saml",
        organization_id=district.organization_id,
        idp_initiated=True,
        private_key=to_pem(make_key("ours")),
        encryption_certificate=make_certificate("ours"),
    )
    (folder / "key.pem").write_text(to_pem(make_key("idp")))
    (folder / "certificate.pem").write_text(make_certificate("idp"))
    return upstream_id


async def trust(app: FastAPI, upstream_id: UUID, document: str) -> None:
    """Believe what its metadata says."""
    read = read_metadata(document.encode())
    said = {"entity_id": read.entity_id, "sso_url": read.sso_url, "slo_url": read.slo_url}
    said |= {"certificates": list(read.certificates)}
    await app.state.database.fetch("UPDATE upstream SET config = config || $2 WHERE id = $1", upstream_id, said)
    app.state.launching.upstreams._kept.clear()


async def post(browser: httpx2.AsyncClient, answer: dict[str, str]) -> httpx2.Response:
    """Post a response where it wants to go, and take the next step; the page that is shown."""
    assert answer["destination"].startswith("http://homeroom.test/sso/saml/")
    posted = await browser.post(answer["destination"], data={"SAMLResponse": answer["SAMLResponse"]})
    assert posted.status_code == 303, posted.text
    return await browser.get(posted.headers["Location"])


@pytest.mark.usefixtures("xmlsec")
async def test_pysaml2_signs_people_in_and_out(settings: Settings, roster: PlayedRoster, tmp_path: Path) -> None:
    """It understands our metadata and messages, and we its answers: signed, encrypted, unasked, and logout."""
    app = create(settings)
    async with calling(app) as browser:
        upstream_id = await connect(app, settings, roster, tmp_path)
        base = f"/sso/saml/{upstream_id}"
        (tmp_path / "sp.xml").write_bytes((await browser.get(f"{base}/metadata")).content)
        async with run_counterpart(tmp_path) as idp:
            await trust(app, upstream_id, (await idp.ask("describe"))["metadata"])
            for sign in (["assertion"], ["assertion", "response"]):
                for encrypt in (False, True):
                    sent = await browser.get(f"/sso/launch/{upstream_id}")
                    url = sent.headers["Location"]
                    answer = await idp.ask("answer", url=url, name_id="user-1", sign=sign, encrypt=encrypt)
                    assert "Ada Berg" in (await post(browser, answer)).text, (sign, encrypt)
            unasked = await idp.ask("answer", url=None, name_id="user-1", sign=["assertion"], encrypt=False)
            assert "Ada Berg" in (await post(browser, unasked)).text
            await check_logout(app, browser, idp, base)


async def check_logout(app: FastAPI, browser: httpx2.AsyncClient, idp: Counterpart, base: str) -> None:
    """Its signed LogoutRequest ends the session, our signed ones are understood, and so are the answers."""
    database = app.state.database
    row = await database.fetchrow("SELECT * FROM session")
    session = Session(**{name: row[name] for name in Session.__slots__})
    sent = await app.state.saml.logout.start(session, "/oauth2/signed-out")
    obeyed = await idp.ask("obey", url=sent)
    assert obeyed["name_id"] == "user-1"
    back = await browser.get(obeyed["url"])
    assert (back.status_code, back.headers["Location"]) == (303, "/oauth2/signed-out")
    asked = await idp.ask("log_out", name_id="user-1", sessions=[row["upstream"]["session_index"]])
    assert asked["url"].startswith(f"http://homeroom.test{base}/slo?")
    answered = await browser.get(asked["url"])
    assert await database.fetchval("SELECT count(*) FROM session") == 0
    location = answered.headers["Location"]
    assert read_request(location).tag.endswith("LogoutResponse")
    said = await idp.ask("read_logout_answer", url=location)
    assert said["status"].endswith(":Success")
