"""A pretend Canvas that takes SIS imports (Canvas REST API, "SIS Imports" and "SIS Import Format").

It keeps users, courses, sections and enrollments, compares sets with those before as Canvas does, and can be told to
be slow, to refuse, or to lose its token. It is no provider, so it stands beside the district, not behind its faces.
"""

import csv
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sandbox_district.replies import reply_json

FILES: Final[Mapping[str, tuple[str, ...]]] = {
    "accounts": ("account_id", "parent_account_id", "name", "status"),
    "terms": ("term_id", "name", "status"),
    "courses": ("course_id", "short_name", "long_name", "status"),
    "sections": ("section_id", "course_id", "name", "status"),
    "users": ("user_id", "login_id", "status"),
    "enrollments": ("section_id", "user_id", "role", "status"),
    "user_observers": ("observer_id", "student_id", "status"),
}
"""File → the columns it must have, in the order files are imported."""
KEYS: Final[Mapping[str, int]] = {"enrollments": 3, "user_observers": 2}
"""How many of those columns say which row it is; of all others one."""
REFERENCES: Final[Mapping[str, Sequence[tuple[str, str]]]] = {
    "accounts": (("accounts", "parent_account_id"),),
    "courses": (("terms", "term_id"), ("accounts", "account_id")),
    "sections": (("courses", "course_id"),),
    "enrollments": (("sections", "section_id"), ("users", "user_id")),
    "user_observers": (("users", "observer_id"), ("users", "student_id")),
}
"""File → which other file's rows its columns name."""
STATUSES: Final[Mapping[str, frozenset[str]]] = {
    "accounts": frozenset({"active", "deleted"}),
    "terms": frozenset({"active", "deleted"}),
    "courses": frozenset({"active", "deleted", "completed", "published"}),
    "sections": frozenset({"active", "deleted"}),
    "users": frozenset({"active", "suspended", "deleted"}),
    "enrollments": frozenset({"active", "deleted", "completed", "inactive", "deleted_last_completed"}),
    "user_observers": frozenset({"active", "deleted"}),
}
MOST_BREACHES: Final = 5
_PERCENT: Final = 100

Key = tuple[str, ...]
Rows = dict[Key, dict[str, str]]


@dataclass
class Imported:
    """One import, as Canvas tells of it."""

    id: int
    options: Mapping[str, str]
    polls: int = 0
    final: str = "imported"
    warnings: list[list[str]] = field(default_factory=list)
    errors: list[list[str]] = field(default_factory=list)
    exceeded: bool = False
    diffed_against: int | None = None
    size: int = 0

    def describe(self, pending: int) -> dict[str, Any]:
        """The import after it was asked about so often."""
        done = self.polls >= pending
        state = self.final if done else "importing" if self.polls else "created"
        told = {"processing_warnings": self.warnings, "processing_errors": self.errors} if done else {}
        return {
            "id": self.id,
            "workflow_state": state,
            "progress": 100 if done else min(99, self.polls * 10),
            "diffing_threshold_exceeded": self.exceeded,
            "diffed_against_import_id": self.diffed_against,
            "skip_deletes": self.options.get("skip_deletes") == "true",
            **told,
        }


@dataclass
class _DataSet:
    """What sets of one identifier are compared with."""

    files: dict[str, Rows]
    size: int
    number: int


@dataclass
class PretendCanvas:
    """One root account."""

    token: str = "canvas-token"  # noqa: S105 - a made-up account's
    account: str = "1"
    pending: int = 1
    """How often an import is asked about before it is done."""
    refuse: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Statuses and headers that the next requests are answered with."""
    break_uploads: str = ""
    """The state uploads end in, if they are to fail."""
    state: dict[str, Rows] = field(default_factory=lambda: {name: {} for name in FILES})
    imports: list[Imported] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    _sets: dict[str, _DataSet] = field(default_factory=dict)
    _breaches: dict[str, int] = field(default_factory=dict)

    def app(self) -> Starlette:
        """The routes of the API."""
        base = "/api/v1/accounts/{account}"
        return Starlette(
            routes=[
                Route(base, self._serve_account),
                Route(f"{base}/sis_imports", self._serve_upload, methods=["POST"]),
                Route(f"{base}/sis_imports/{{number:int}}", self._serve_import),
            ]
        )

    def statuses(self, name: str) -> dict[str, str]:
        """Status by id of what is held of a file."""
        return {"/".join(key): row["status"] for key, row in self.state[name].items()}

    # ── requests ──────────────────────────────────────────────────────────────────────────────────────────────────

    def _refusal(self, request: Request) -> Response | None:
        self.requests.append(f"{request.method} {request.url.path}")
        if self.refuse:
            status, headers = self.refuse.pop(0)
            return reply_json({"errors": [{"message": "no"}]}, status, headers).response()
        if request.headers.get("authorization") != f"Bearer {self.token}":
            return reply_json({"errors": [{"message": "Invalid access token."}]}, 401).response()
        if request.path_params["account"] not in {self.account, "self"}:
            return reply_json({"errors": [{"message": "The specified resource does not exist."}]}, 404).response()
        return None

    async def _serve_account(self, request: Request) -> Response:
        return self._refusal(request) or reply_json({"id": int(self.account), "name": "Pretend"}).response()

    async def _serve_import(self, request: Request) -> Response:
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        number = request.path_params["number"]
        if not 0 < number <= len(self.imports):
            return reply_json({"errors": [{"message": "The specified resource does not exist."}]}, 404).response()
        found = self.imports[number - 1]
        found.polls += 1
        return reply_json(found.describe(self.pending)).response()

    async def _serve_upload(self, request: Request) -> Response:
        content = await request.body()
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        options = dict(request.query_params)
        kind = request.headers.get("content-type", "")
        if kind.startswith("multipart/"):
            fields, content = _read_multipart(kind, content)
            options |= fields
        found = Imported(len(self.imports) + 1, options, size=len(content))
        self.imports.append(found)
        if self.break_uploads:
            found.final = self.break_uploads
        else:
            self._take(found, content)
        return reply_json(found.describe(self.pending)).response()

    # ── imports ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _take(self, found: Imported, content: bytes) -> None:
        """Do what an import does, at once; only that it tells of it later."""
        identifier = found.options.get("diffing_data_set_identifier", "")
        remaster = found.options.get("diffing_remaster_data_set") == "true"
        if self._breaches.get(identifier, 0) >= MOST_BREACHES and not remaster:
            found.final = "failed_with_messages"
            found.errors.append(["", "Diffing threshold exceeded too often, remaster the data set"])
            return
        try:
            files = _read_files(content)
        except (zipfile.BadZipFile, UnicodeDecodeError, csv.Error):
            found.final = "failed_with_messages"
            found.errors.append(["", "Unable to read the file"])
            return
        applied = self._compare(found, identifier, files) if identifier and not remaster else files
        if applied is files and identifier and not found.exceeded:
            self._breaches.pop(identifier, None)
        for name, columns in FILES.items():
            if name in files:
                self._import_file(found, name, columns, applied[name])
        if found.errors or found.warnings:
            found.final = "imported_with_messages"
        if identifier and not found.exceeded:
            self._sets[identifier] = _DataSet(files, found.size, found.id)

    def _compare(self, found: Imported, identifier: str, files: dict[str, Rows]) -> dict[str, Rows]:
        """What differs from the set before; everything, if there is none or it differs by more than the threshold."""
        before = self._sets.get(identifier)
        if before is None:
            return files
        threshold = found.options.get("change_threshold")
        change = abs(found.size - before.size) * _PERCENT / max(1, before.size)
        if threshold is not None and change > int(threshold):
            found.exceeded = True
            found.warnings.append(["", "Diffing not performed because file size difference exceeded threshold"])
            self._breaches[identifier] = self._breaches.get(identifier, 0) + 1
            return files
        self._breaches.pop(identifier, None)
        found.diffed_against = before.number
        drops = {
            "enrollments": found.options.get("diffing_drop_status", "deleted"),
            "users": found.options.get("diffing_user_remove_status", "deleted"),
        }
        differing: dict[str, Rows] = {}
        for name, rows in files.items():
            known = before.files.get(name, {})
            differing[name] = {key: row for key, row in rows.items() if known.get(key) != row}
            gone = {key: row for key, row in known.items() if key not in rows}
            differing[name] |= {
                key: {**row, "status": drops.get(name, "deleted")}
                for key, row in gone.items()
                if row["status"] != "deleted"
            }
        return differing

    def _import_file(self, found: Imported, name: str, columns: Sequence[str], rows: Rows) -> None:
        file = f"{name}.csv"
        for key, row in rows.items():
            missing = [column for column in columns if column not in row]
            if missing:
                found.errors.append([file, f"Missing required column {missing[0]}"])
                return
            problem = self._object(name, key, row)
            if problem is not None:
                found.warnings.append([file, problem])
                continue
            if row["status"] == "deleted" and found.options.get("skip_deletes") == "true":
                continue
            self.state[name][key] = row

    def _object(self, name: str, key: Key, row: Mapping[str, str]) -> str | None:
        """Why a row is not taken; names whom it is about, as Canvas does."""
        if row["status"] not in STATUSES[name]:
            return f'Improper status "{row["status"]}" for {name} {key[0]}'
        missing = next((file for file, column in REFERENCES.get(name, ()) if self._lacks(file, row.get(column))), None)
        if missing is not None:
            return f"{name} row {key[0]} references a non-existent row of {missing}"
        if name == "users":
            login = row["login_id"].lower()
            known = self.state["users"].items()
            owner = next((who for who, other in known if other["login_id"].lower() == login), key)
            if owner != key:
                who = row.get("short_name") or key[0]
                return f"user {owner[0]} has already claimed {who}'s requested login information, skipping"
        return None

    def _lacks(self, file: str, value: str | None) -> bool:
        return bool(value) and (value,) not in self.state[file]


def _read_multipart(kind: str, content: bytes) -> tuple[dict[str, str], bytes]:
    """The fields of a form, and its attachment."""
    message = BytesParser(policy=HTTP).parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + content)
    fields: dict[str, str] = {}
    attachment = b""
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        payload = bytes(part.get_payload(decode=True))
        if name == "attachment":
            attachment = payload
        else:
            fields[str(name)] = payload.decode()
    return fields, attachment


def _read_files(content: bytes) -> dict[str, Rows]:
    """The files of a zip by name, and their rows by key."""
    files: dict[str, Rows] = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for entry in archive.namelist():
            name = entry.removesuffix(".csv")
            if name not in FILES:
                continue
            lines = csv.DictReader(io.StringIO(archive.read(entry).decode("utf-8-sig"), newline=""))
            width = KEYS.get(name, 1)
            rows: Rows = {}
            for row in lines:
                rows[tuple(row.get(column, "") for column in FILES[name][:width])] = row
            files[name] = rows
    return files
