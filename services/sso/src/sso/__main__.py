"""`python -m sso api|worker|migrate|client|account|rotate`."""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from uuid import UUID

from homeroom.clock import SystemClock
from homeroom.db import Database
from homeroom.secrets import hash_password
from homeroom.service import run_api, run_migrations, run_once, run_roles, run_worker
from homeroom.settings import SettingsError
from homeroom.telemetry import get_logger
from sso.app import NAME, SCHEMA, create, keys_of, work
from sso.clients import Clients, Declaration, check
from sso.settings import Settings
from sso.staff.accounts import Accounts
from sso.staff.passwords import object_to, read_username

log = get_logger(__name__)


def serve() -> None:
    """The role `api`."""
    settings = Settings.load()
    run_api(create(settings), settings)


def serve_worker() -> None:
    """The role `worker`."""
    settings = Settings.load()
    run_worker(NAME, settings, lambda parts, stop: work(settings, parts, stop))


def bring_up_to_date() -> None:
    """The role `migrate`."""
    run_migrations(NAME, Settings.load(), schema=SCHEMA, package="sso")


def register_client() -> None:
    """The role `client`: make a client what the arguments say; safe to repeat."""
    parser = argparse.ArgumentParser("python -m sso client", description=register_client.__doc__)
    parser.add_argument("--id", required=True)
    parser.add_argument("--secret-file", required=True, type=Path, help="holds the secret; 24 to 256 characters")
    parser.add_argument("--scope", required=True, action="append", help="may be given several times")
    parser.add_argument("--organization", type=UUID, help="the one organization its tokens may see")
    parser.add_argument("--product", type=UUID, help="the product it belongs to, whose licenses its tokens follow")
    given = parser.parse_args(sys.argv[2:])
    settings = Settings.load()
    try:
        secret = given.secret_file.read_text("utf-8").strip()
        declaration = Declaration(given.id, secret, given.scope, given.organization, given.product)
        check(declaration)
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from None

    async def declare() -> None:
        async with _open(settings) as database:
            await Clients(database).declare(declaration, enable=True)
        log.info("client registered", client_id=given.id, scopes=given.scope)

    run_once(NAME, settings, declare)


def register_account() -> None:
    """The role `account`: a local account as an admin of the platform with this password; enables it, safe to repeat.

    It can sign in where HOMEROOM_LOCAL_ACCOUNTS is on.
    """
    parser = argparse.ArgumentParser("python -m sso account", description=register_account.__doc__)
    parser.add_argument("--username", required=True, help="2 to 63 small letters, digits, dots, dashes, underscores")
    parser.add_argument("--password-file", required=True, type=Path, help="holds the password; at least 12 characters")
    given = parser.parse_args(sys.argv[2:])
    settings = Settings.load()
    try:
        password = given.password_file.read_text("utf-8").strip()
    except (OSError, ValueError) as error:
        raise SettingsError(str(error)) from None
    if read_username(given.username) != given.username:
        msg = "this can't be a username"
        raise SettingsError(msg)
    if (problem := object_to(given.username, password)) is not None:
        raise SettingsError(problem)

    async def declare() -> None:
        async with _open(settings) as database:
            account = await Accounts(database).declare(given.username, hash_password(password), enable=True)
        log.info("account registered", account_id=str(account.id))

    run_once(NAME, settings, declare)


def rotate() -> None:
    """The role `rotate`: have a new signing key soon, before the present one has lived its life."""
    settings = Settings.load()

    async def refresh() -> None:
        async with _open(settings) as database:
            await keys_of(settings, database, SystemClock()).refresh(early=True)

    run_once(NAME, settings, refresh)


def _open(settings: Settings) -> AbstractAsyncContextManager[Database]:
    return Database.open(settings.database_url.get_secret_value(), schema=SCHEMA, size=1, application=NAME)


if __name__ == "__main__":
    run_roles(
        "sso",
        {
            "api": serve,
            "worker": serve_worker,
            "migrate": bring_up_to_date,
            "client": register_client,
            "account": register_account,
            "rotate": rotate,
        },
    )
