"""How answers reach products: through the browser, to a redirect URI that was checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fastapi import Response
from fastapi.responses import RedirectResponse

from sso.handover.addresses import add_query
from sso.launch.pages import show
from sso.provider.requests import ResponseMode

HEADERS: Final = {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
"""On everything that leads into a product: what its address holds goes to nobody else."""


def answer_product(redirect_uri: str, mode: ResponseMode, parameters: Mapping[str, str]) -> Response:
    """The answer, in the redirect URI's query or posted by a form that sends itself (OAuth 2.0 Form Post Mode)."""
    if mode == "form_post":
        return show("form_post", form_targets=(redirect_uri,), action=redirect_uri, fields=list(parameters.items()))
    return RedirectResponse(add_query(redirect_uri, **parameters), 303, HEADERS)
