"""The pages people see: plain HTML that works without a script, with nothing on it that was received unescaped.

Templates lie in `sso/pages`; every page extends `page.html`. A page that must post a form by itself (LTI) carries its
one script under a nonce and a button for whoever has scripts off.
"""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import Any, Final
from urllib.parse import urlsplit

from fastapi import APIRouter, Response
from jinja2 import Environment, FunctionLoader, StrictUndefined, select_autoescape

from homeroom.codes import Code

router = APIRouter(prefix="/sso", include_in_schema=False)

_FOLDER: Final = files("sso").joinpath("pages")
_STYLE: Final = _FOLDER.joinpath("style.css").read_text("utf-8")
_ENVIRONMENT: Final = Environment(
    loader=FunctionLoader(lambda name: _FOLDER.joinpath(name).read_text("utf-8")),
    autoescape=select_autoescape(default=True),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def show(template: str, status: int = 200, *, form_targets: tuple[str, ...] = (), **values: Any) -> Response:
    """A page from a template.

    Args:
        template: its name, without `.html`.
        status: HTTP's.
        form_targets: URLs its forms may be posted to, beside our own; only their origins count.
        values: what the template shows; it is escaped.
    """
    nonce = secrets.token_urlsafe(16)
    origins = " ".join(sorted({_origin(url) for url in form_targets}))
    policy = (
        f"default-src 'none'; style-src 'self'; script-src 'nonce-{nonce}'; form-action 'self' {origins}".strip()
        + "; frame-ancestors 'none'; base-uri 'none'"
    )
    page = _ENVIRONMENT.get_template(f"{template}.html").render(nonce=nonce, **values)
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-store",
        "Referrer-Policy": "no-referrer",
        "X-Robots-Tag": "noindex",
    }
    return Response(page, status, headers, "text/html; charset=utf-8")


def show_refusal(code: Code, support_id: str, status: int, *, retry: str | None = None) -> Response:
    """The page for a launch that was refused: what happened, what to do, and the id to name. Nothing of the request."""
    return show("refused", status, entry=code.entry, code=str(code), support_id=support_id, retry=retry)


@router.get("/style.css")
async def show_style() -> Response:
    """How the pages look."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
