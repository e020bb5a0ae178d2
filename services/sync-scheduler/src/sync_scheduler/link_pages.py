"""The page behind a credential link: asks for what the provider needs, verifies it, and says what came of it (C12).

Plain HTML without a script. The token in the address is the credential: there is no cookie, so there is nothing
another site could use. Names and notes are only ever shown escaped; secrets are never shown, not even those just typed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from importlib.resources import files
from string import Template
from typing import Literal, get_args, get_origin
from urllib.parse import parse_qsl

import asyncpg
from fastapi import APIRouter, Request, Response
from pydantic.fields import FieldInfo

from homeroom.codes import Code
from homeroom.connections import CONNECTIONS
from sync_scheduler.callers import Stop, UseLinks
from sync_scheduler.credential_links import LinkInvalid, Refused, list_fields
from sync_scheduler.inquiry_views import show_report

router = APIRouter(prefix="/connect", include_in_schema=False)

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_MOST_FIELDS = 40
_LONG = frozenset({"service_account_key"})
"""What is a whole file."""
_PAGES = files("sync_scheduler").joinpath("pages")
_TEMPLATES = {
    name: Template(_PAGES.joinpath(f"{name}.html").read_text("utf-8"))
    for name in ("page", "form", "trouble", "input", "text", "choice")
}
_STYLE = _PAGES.joinpath("style.css").read_text("utf-8")
_HEADING = "Connect your district to Homeroom"


@router.get("/style.css")
async def show_style() -> Response:
    """How the pages look."""
    return Response(_STYLE, media_type="text/css", headers={"Cache-Control": "public, max-age=3600"})


@router.get("/{token}")
async def show_link(token: str, links: UseLinks) -> Response:
    """The form, as often as somebody looks at it."""
    try:
        row = await links.open(token)
    except LinkInvalid:
        return _show_invalid()
    return _show_form(row, {}, {}, "")


@router.post("/{token}")
async def use_link(token: str, request: Request, links: UseLinks, stop: Stop) -> Response:
    """Verify and save what was entered; where that fails, say why and ask again."""
    try:
        row = await links.open(token)
        form = _read_form(await request.body())
        try:
            answer = await links.enter(token, form, stop)
        except Refused as refused:
            return await _show_refused(links, token, row, form, refused)
    except LinkInvalid:
        return _show_invalid()
    return _show_done(row, answer)


async def _show_refused(
    links: UseLinks, token: str, row: asyncpg.Record, form: Mapping[str, str], refused: Refused
) -> Response:
    if refused.row is None:
        return _show_form(row, form, refused.fields, _list_problems(row, refused.fields))
    try:
        await links.open(token)
    except LinkInvalid:  # it was tried too often, or its time is over
        trouble = _explain(refused.row)
        return _show(_HEADING, trouble + _paragraph(Code.LINK_INVALID.entry.next_step), 422, trouble=True)
    return _show_form(row, form, {}, _explain(refused.row))


def _read_form(body: bytes) -> dict[str, str]:
    """The fields of a form; a body that is none has none."""
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS))
    except ValueError:
        return {}


# ── pages ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _show(heading: str, content: str, status: int, *, trouble: bool = False) -> Response:
    title = f"{'Error: ' if trouble else ''}{heading}"
    page = _TEMPLATES["page"].substitute(title=escape(title), heading=escape(heading), content=content)
    return Response(page, status, _HEADERS, "text/html; charset=utf-8")


def _show_invalid() -> Response:
    entry = Code.LINK_INVALID.entry
    return _show(entry.title, "".join(map(_paragraph, (entry.cause, entry.next_step))), 404)


def _show_done(row: asyncpg.Record, answer: asyncpg.Record) -> Response:
    odd = [finding.detail for finding in show_report(answer).findings if not finding.ok]
    content = _paragraph(
        f"The credentials for {row['name']} of {row['organization_name']} work and were saved. Whoever sent you the "
        "link is told. You are done and can close this page."
    )
    if odd:
        content += _paragraph("Some things looked odd; none of it has to be settled now:")
        content += _list(map(escape, odd))
    return _show("Thank you, your district is connected", content, 200)


def _show_form(row: asyncpg.Record, form: Mapping[str, str], problems: Mapping[str, str], trouble: str) -> Response:
    model = CONNECTIONS[row["provider"]]
    secret = model.secret_fields()
    shown = {name: "" if name in secret else form.get(name, "") for name in list_fields(model)}
    fields = [
        _show_field(name, model.model_fields[name], value, problems.get(name, "")) for name, value in shown.items()
    ]
    note = f'<p class="note">{escape(row["note"])}</p>' if row["note"] else ""
    content = _TEMPLATES["form"].substitute(
        integration=escape(row["name"]),
        organization=escape(row["organization_name"]),
        note=note,
        trouble=trouble,
        fields="".join(fields),
    )
    return _show(_HEADING, content, 422 if trouble else 200, trouble=bool(trouble))


def _show_field(name: str, field: FieldInfo, value: str, problem: str) -> str:
    hint = field.description or ""
    about = [f"{name}-{part}" for part, text in (("hint", hint), ("problem", problem)) if text]
    attributes = f' aria-describedby="{" ".join(about)}"' if about else ""
    attributes += ' aria-invalid="true"' if problem else ""
    attributes += " required" if field.is_required() else ""
    secret = "SecretStr" in str(field.annotation)
    parts = {
        "name": name,
        "label": escape(field.title or name) + ("" if field.is_required() else " (if needed)"),
        "hint": f'<span class="hint" id="{name}-hint">{escape(hint)}</span>\n' if hint else "",
        "problem": f'<span class="problem" id="{name}-problem">Error: {escape(problem)}</span>\n' if problem else "",
        "attributes": attributes,
    }
    if get_origin(field.annotation) is Literal:
        chosen = value or field.default
        options = [
            f'<option value="{escape(one)}"{" selected" if one == chosen else ""}>{escape(one)}</option>'
            for one in get_args(field.annotation)
        ]
        return _TEMPLATES["choice"].substitute(parts, options="\n".join(options))
    if name in _LONG:
        return _TEMPLATES["text"].substitute(parts)
    kind = "password" if secret else "text"
    return _TEMPLATES["input"].substitute(parts, type=kind, value=escape(value))


def _list_problems(row: asyncpg.Record, problems: Mapping[str, str]) -> str:
    """The summary of what is wrong, with a way to each field."""
    fields = CONNECTIONS[row["provider"]].model_fields
    asked = list_fields(CONNECTIONS[row["provider"]])
    lines = [
        f'<a href="#{name}">{escape(fields[name].title or name)}</a>: {escape(problem)}'
        if name in asked
        else escape(problem)
        for name, problem in problems.items()
    ]
    return _TEMPLATES["trouble"].substitute(heading="Something is missing or wrong", sentences=_list(lines))


def _explain(answer: asyncpg.Record) -> str:
    """What a verification failed with, in words, and what to do."""
    code = Code(answer["code"]) if answer["code"] else Code.ANSWER_PENDING
    sentences = [f"{code.entry.title}."]
    if answer["detail"]:
        sentences.append(answer["detail"])
    sentences.append(
        "The provider did not answer in time, so nothing was saved. Please try again in a few minutes."
        if code is Code.ANSWER_PENDING
        else "Nothing was saved. Please correct what is wrong and enter the secrets again."
    )
    heading = "The credentials could not be verified"
    return _TEMPLATES["trouble"].substitute(heading=heading, sentences="".join(map(_paragraph, sentences)))


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _list(lines: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{line}</li>' for line in lines)}</ul>\n"
