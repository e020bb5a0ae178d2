"""`python -m sandbox_district`: serve a made-up district until interrupted."""

import argparse
from pathlib import Path

import uvicorn

from sandbox_district.server import create_app, create_district, create_sandbox, listen, name_origin


def main() -> None:
    """Read the arguments, say where the sandbox is, serve."""
    parser = argparse.ArgumentParser(
        prog="sandbox_district", description="A made-up school district, served as OneRoster."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: loopback only)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--seed", type=int, default=1, help="the same seed makes the same district")
    parser.add_argument("--students", type=int, default=1200, help="how many students it starts with")
    parser.add_argument("--port-file", type=Path, help="file to write the port to, once it listens")
    parser.add_argument("--key-file", type=Path, help="where the identity providers' key is kept; made if missing")
    arguments = parser.parse_args()

    sandbox = create_sandbox(create_district(arguments.seed, arguments.students), key_file=arguments.key_file)
    with listen(arguments.host, arguments.port) as listener:
        sandbox.url = name_origin(listener)
        if arguments.port_file:
            arguments.port_file.write_text(str(listener.getsockname()[1]), "utf-8")
        print(f"{sandbox.url}/sandbox", flush=True)  # noqa: T201 - the one line a caller reads
        config = uvicorn.Config(
            create_app(sandbox),
            access_log=False,
            log_level="warning",
            date_header=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
