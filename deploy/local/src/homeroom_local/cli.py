"""The command line: `homeroom up`, `homeroom demo`, `homeroom token` (design: contract)."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import httpx2
import typer
from rich.console import Console

from homeroom_local.client import ApiError
from homeroom_local.demo import DemoError, print_summary, run_demo
from homeroom_local.secrets_file import LocalSecrets
from homeroom_local.sign_in_setup import SetupError, set_up
from homeroom_local.stack import LOCAL_ADMIN, Stack, StackError, fetch_token, running_stack
from homeroom_local.student_launch import LaunchError
from provider_gateway.inbox.host_key import fingerprints

DATA = Path(".homeroom")
EXIT_STOPPED = 130
"""What a shell calls the end by Ctrl-C."""

app = typer.Typer(
    help="Homeroom on this machine.", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
_messages = Console(stderr=True, soft_wrap=True)

Data = Annotated[Path, typer.Option(help="where the local installation keeps its data")]


@app.command()
def up(
    port: Annotated[int, typer.Option(help="the origin's port")] = 8000,
    data: Data = DATA,
    sandbox: Annotated[bool, typer.Option(help="run the sandbox district beside it")] = True,
    seed: Annotated[bool, typer.Option(help="have its people sign in to a sample product")] = True,
) -> None:
    """Keep Homeroom running on this machine until Ctrl-C."""
    try:
        asyncio.run(_stay_up(port, data, sandbox=sandbox, seed=sandbox and seed))
    except (StackError, TimeoutError) as error:
        _messages.print(f"[red]Homeroom could not be started:[/red] {error or 'a step took too long'}")
        raise typer.Exit(1) from None


async def _stay_up(port: int, data: Path, *, sandbox: bool, seed: bool) -> None:
    stop = asyncio.Event()
    _heed_signals(stop.set)
    _messages.print("Starting Homeroom ...")
    async with running_stack(data, port=port, sandbox=sandbox) as stack:
        bus = f"Apache Kafka at {stack.kafka}" if stack.kafka else "on Postgres (embedded default)"
        _messages.print(f"Origin       {stack.origin}")
        _messages.print(f"Admin token  {data / 'admin-token'} (renewed while this runs)")
        _messages.print(
            f"Sign in      {stack.origin}/sso/staff as {LOCAL_ADMIN}; password in {data / 'admin-password'}"
        )
        _messages.print(f"Sandbox      {stack.sandbox}/sandbox" if sandbox else "Sandbox      off")
        _messages.print(f"SFTP inbox   127.0.0.1:{stack.sftp_port}")
        for told in fingerprints(stack.secrets.sftp_host_key):
            _messages.print(f"  host key   {told}")
        _messages.print(f"Bus          {bus}")
        _messages.print(f"Logs         {data / 'logs'}")
        _messages.print("Ctrl-C stops it.")
        seeding = asyncio.create_task(_show_sign_in(stack)) if seed else None
        await stop.wait()
        if seeding is not None:
            seeding.cancel()
            await asyncio.wait([seeding])
        _messages.print("Stopping ...")


async def _show_sign_in(stack: Stack) -> None:
    """Have sign-in clickable, and say where. Homeroom is up whether this works or not."""
    _messages.print("Sign-in      being set up ...")
    try:
        portals = await set_up(stack)
    except (ApiError, SetupError, TimeoutError, httpx2.HTTPError) as error:
        _messages.print(f"[yellow]Sign-in could not be set up:[/yellow] {error or 'a step took too long'}")
        return
    _messages.print("Sign-in      choose who you are, then click a tile:")
    for name in ("launchpad", "clever_portal", "idp"):
        _messages.print(f"  portal     {portals[name]['portal']}")
    _messages.print(f"  product    {portals['product']['url']}")


@app.command()
def demo(
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a summary")] = False,
    keep: Annotated[bool, typer.Option("--keep", help="keep the data in .homeroom-demo and stay up")] = False,
) -> None:
    """Do the main job once, check it and print what happened; exit 0 only if all of it really did."""
    try:
        asyncio.run(_demonstrate(as_json=as_json, keep=keep))
    except (DemoError, LaunchError, SetupError, StackError, TimeoutError) as error:
        _messages.print(f"[red]The demo failed:[/red] {error or 'a step took too long'}")
        raise typer.Exit(1) from None
    except asyncio.CancelledError:
        _messages.print("The demo was stopped.")
        raise typer.Exit(EXIT_STOPPED) from None


async def _demonstrate(*, as_json: bool, keep: bool) -> None:
    task = asyncio.current_task()
    if task is not None:
        _heed_signals(lambda: task.cancelling() or task.cancel())  # once: cleaning up is not cancelled
    folder = nullcontext(".homeroom-demo") if keep else tempfile.TemporaryDirectory(prefix="homeroom-demo-")
    with folder as name:
        if not as_json:
            _messages.print("Starting Homeroom: Postgres, the bus, four services and a made-up district ...")
        async with running_stack(Path(name)) as stack:
            report = await run_demo(stack, _messages, quiet=as_json)
            if as_json:
                sys.stdout.write(json.dumps(report) + "\n")
                sys.stdout.flush()
            else:
                print_summary(report, Console())
            if keep:
                _messages.print(
                    f"Still running at {stack.origin}; the admin token is in {name}/admin-token. Ctrl-C stops it."
                )
                stop = asyncio.Event()
                _heed_signals(stop.set)
                await stop.wait()


def _heed_signals(end: Callable[[], object]) -> None:
    """Call `end` when we are told to end, so that what was started is stopped before we go."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, end)


@app.command()
def token(
    scope: Annotated[str, typer.Option(help="scopes, separated by spaces")],
    data: Data = DATA,
    port: Annotated[int, typer.Option(help="the origin's port")] = 8000,
) -> None:
    """Print an access token of the local installation, which must be running."""
    if not (data / "secrets.json").exists():
        _messages.print(f"There is no installation in {data}; start one with `homeroom up`.")
        raise typer.Exit(1)
    try:
        text = asyncio.run(fetch_token(f"http://127.0.0.1:{port}", LocalSecrets.load(data).admin_secret, scope))
    except httpx2.HTTPStatusError as error:
        _messages.print(f"No token: {error.response.json().get('error_description', error.response.status_code)}")
        raise typer.Exit(1) from None
    except httpx2.HTTPError:
        _messages.print(f"Nothing answers at port {port}; start it with `homeroom up`.")
        raise typer.Exit(1) from None
    typer.echo(text)


def main() -> None:
    """Entry point of the `homeroom` command."""
    app()


if __name__ == "__main__":
    main()
