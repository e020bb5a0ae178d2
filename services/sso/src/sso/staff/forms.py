"""Forms on pages of ours: nobody else's page can send one (CSRF).

A form holds a token that is made of the browser's cookie, which only that browser and we know; a page of another site
can have the cookie sent along, but not read it.
"""

from __future__ import annotations

import hashlib
import hmac
from base64 import urlsafe_b64encode
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from homeroom.codes import Code
from sso.launch.flows import Browsers
from sso.launch.refusals import Refused

MOST_FIELDS: Final = 20
MOST_BYTES: Final = 16_000


def make_csrf(browser: str) -> str:
    """The token for forms that are shown to this browser."""
    return urlsafe_b64encode(hashlib.sha256(f"form\n{browser}".encode()).digest()).decode().rstrip("=")


async def read_form(request: Request, browsers: Browsers) -> tuple[dict[str, str], str]:
    """The fields of a form of ours, and the browser that sent it. Raises `Refused` for any other."""
    browser = browsers.recognise(request)
    body = await request.body()
    if browser is None or len(body) > MOST_BYTES:
        raise _foreign("no browser that was shown a form, or too long")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise _foreign("sent by another site's page")
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        raise _foreign("not a form") from None
    fields = dict(pairs)
    if len(fields) != len(pairs) or not hmac.compare_digest(
        fields.get("csrf", "").encode(), make_csrf(browser).encode()
    ):
        raise _foreign("not a form of ours")
    return fields, browser


def _foreign(why: str) -> Refused:
    return Refused(Code.SIGNIN_REQUEST_INVALID, why, status=400)
