"""The pages of the portals and of the sample product: plain HTML without anything from elsewhere."""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_FOLDER: Final = files("sandbox_district.portals").joinpath("pages")
STYLE_PATH: Final = "/portals/style.css"
_ENVIRONMENT: Final = Environment(
    loader=FunctionLoader(lambda name: _FOLDER.joinpath(name).read_text("utf-8")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def show(template: str, status: int = 200, **values: Any) -> Response:
    """A page from a template; its one script, if it has one, is allowed by a nonce."""
    nonce = secrets.token_urlsafe(16)
    page = _ENVIRONMENT.get_template(f"{template}.html").render(nonce=nonce, style=STYLE_PATH, **values)
    headers = {
        "Cache-Control": "no-store",
        "Content-Security-Policy": f"default-src 'none'; style-src 'self'; script-src 'nonce-{nonce}'",
    }
    return Response(page, status, headers, "text/html; charset=utf-8")


async def _show_style(_request: Request) -> Response:
    return Response(_FOLDER.joinpath("style.css").read_text("utf-8"), media_type="text/css")


ROUTES: Final = [Route(STYLE_PATH, _show_style, methods=["GET"])]
