"""A real Apache Kafka for tests and measurements, from whatever this machine offers.

In this order: the cluster that `HOMEROOM_TEST_KAFKA` names ("host:port"); a container, if a Docker engine answers and
has the image; Apache Kafka's own jars from Maven Central, kept under `$HOMEROOM_CACHE` or the repository's `.cache`.
Where none of these works the tests that need Kafka are skipped with the reason, or fail if `HOMEROOM_REQUIRE_KAFKA=1`.

A `conftest.py` imports `kafka` and `pytest_terminal_summary` from here.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Protocol

import pytest

JARS = files("homeroom.testing").joinpath("kafka-pom.xml")
JAVA_MINIMUM = 17
FETCH_SECONDS = 300.0
START_SECONDS = 60.0
STOP_SECONDS = 20.0
ENGINE_SECONDS = 3

QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}
"""For tests only: groups form at once and a broker that was killed is let in again after two seconds."""

ALONE = {
    "node.id": "1",
    "process.roles": "broker,controller",
    "inter.broker.listener.name": "PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "auto.create.topics.enable": "false",
}
"""One node that is broker and controller; topics exist only where somebody made them, as in production."""


class NoKafka(Exception):  # noqa: N818 - a state of the machine
    """There is no Kafka to be had here; the text says why."""


class Broker(Protocol):
    """A running Kafka."""

    bootstrap: str
    version: str
    origin: str
    """Where it comes from, in a few words."""

    def kill(self) -> None:
        """End the broker at once, as kill -9 does."""

    def restart(self) -> None:
        """Start it again with its data; returns when it takes clients."""

    def stop(self) -> None:
        """End it for good."""


class GivenBroker:
    """Somebody's cluster, which is not ours to kill."""

    version = "of unknown version"
    origin = "HOMEROOM_TEST_KAFKA"

    def __init__(self, bootstrap: str) -> None:
        self.bootstrap = bootstrap

    def kill(self) -> None:
        """Skip the test that asks for this."""
        pytest.skip("the cluster in HOMEROOM_TEST_KAFKA is not ours to kill")

    restart = kill

    def stop(self) -> None:
        """Leave it running."""


class ContainerBroker:
    """Apache Kafka's image on a Docker engine."""

    origin = "container"

    def __init__(self) -> None:
        self.version = kafka_version()
        image = f"apache/kafka:{self.version}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Old and new names inside testcontainers are not our concern.
            try:
                _knock_at_engine()  # Docker's own client leaves a socket open where there is none.
                import docker  # type: ignore[import-untyped] # only here: most machines have no engine; it has no types
                from testcontainers.core.config import testcontainers_config
                from testcontainers.core.container import DockerContainer

                with closing(docker.from_env(timeout=ENGINE_SECONDS)) as engine:
                    engine.images.get(image)
            except Exception as error:
                raise NoKafka(f"no Docker engine with {image} ({type(error).__name__})") from error
            testcontainers_config.ryuk_disabled = True  # Its helper would be one more image; `stop` removes ours.
            port = _free_port()
            self.bootstrap = f"127.0.0.1:{port}"
            settings = ALONE | QUICK | _listeners(9092, 9093, advertised=self.bootstrap, host="0.0.0.0")  # noqa: S104 - inside the container
            container = DockerContainer(image).with_bind_ports(9092, port)
            for name, value in settings.items():
                container = container.with_env("KAFKA_" + name.upper().replace(".", "_"), value)
            self._container: Any = container
            container.start()
        try:
            _until(lambda: self._marks() > 0, self.origin)
        except BaseException:
            self.stop()
            raise

    def _marks(self) -> int:
        return _marks(b"".join(self._container.get_logs()))

    def kill(self) -> None:
        """Kill the container's process."""
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        """Start the container again."""
        seen = self._marks()
        self._container.get_wrapped_container().start()
        _until(lambda: self._marks() > seen, self.origin)

    def stop(self) -> None:
        """Remove the container."""
        self._container.stop()


class JarBroker:
    """Apache Kafka's own jars under this machine's Java."""

    origin = "jars"

    def __init__(self) -> None:
        self.version = kafka_version()
        self._java = _find_java()
        self._jars = _fetch_jars(self.version)
        self._folder = Path(tempfile.mkdtemp(prefix="homeroom-kafka-"))
        self.log = self._folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        port, controller = _free_port(), _free_port()
        self.bootstrap = f"127.0.0.1:{port}"
        settings = ALONE | QUICK | _listeners(port, controller, advertised=self.bootstrap)
        settings["log.dirs"] = str(self._folder / "data")
        self._settings = self._folder / "server.properties"
        self._settings.write_text("".join(f"{name}={value}\n" for name, value in settings.items()), "utf-8")
        identity = str(uuid.uuid4())
        self._run("kafka.tools.StorageTool", "format", "-t", identity, "-c", str(self._settings)).wait(START_SECONDS)
        try:
            self.restart()
        except BaseException:
            self.stop()
            raise

    def _run(self, *command: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [
                    self._java,
                    "-Xmx384m",
                    "-XX:+UseSerialGC",
                    "-XX:TieredStopAtLevel=1",
                    "-cp",
                    f"{self._jars}/*",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self._folder,
            )

    def kill(self) -> None:
        """Kill -9 of the broker's process."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_SECONDS)
            self._process = None

    def restart(self) -> None:
        """Start the broker on its data and wait until it takes clients."""
        seen = _marks(self.log.read_bytes())
        process = self._process = self._run("kafka.Kafka", str(self._settings))

        def started() -> bool:
            if process.poll() is not None:
                last = self.log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
                raise NoKafka(f"the broker ended by itself: {' '.join(last)}")
            return _marks(self.log.read_bytes()) > seen

        _until(started, self.origin)

    def stop(self) -> None:
        """End the process and remove its data."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


def kafka_version() -> str:
    """The version the tests run on; it stands once, beside the jars' names."""
    found = ET.fromstring(JARS.read_text("utf-8")).find(".//{*}kafka.version")  # noqa: S314 - our own file
    assert found is not None
    return str(found.text)


@contextmanager
def running_kafka() -> Iterator[Broker]:
    """A Kafka for as long as the block runs. Raises `NoKafka` with every reason if there is none."""
    broker = _start()
    try:
        yield broker
    finally:
        broker.stop()


def _start() -> Broker:
    if given := os.environ.get("HOMEROOM_TEST_KAFKA"):
        return GivenBroker(given)
    reasons = []
    for kind in (ContainerBroker, JarBroker):
        try:
            return kind()
        except NoKafka as error:
            reasons.append(str(error))
    raise NoKafka("; ".join(reasons))


def _knock_at_engine() -> None:
    host = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    if host.startswith("unix://"):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(ENGINE_SECONDS)
            probe.connect(host.removeprefix("unix://"))


def _find_java() -> str:
    java = shutil.which("java")
    if java is None:
        raise NoKafka("no Java to run its jars")
    told = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=START_SECONDS, check=False)
    version = re.search(r'version "(\d+)', told.stderr)
    if version is None or int(version[1]) < JAVA_MINIMUM:
        raise NoKafka(f"its jars need Java {JAVA_MINIMUM}")
    return java


def _fetch_jars(version: str) -> Path:
    """The folder with the broker's jars; fetched once and kept."""
    kept = _cache() / "kafka" / version
    if kept.is_dir():
        return kept
    maven = shutil.which("mvn")
    if maven is None:
        raise NoKafka("no Maven to fetch its jars")
    kept.parent.mkdir(parents=True, exist_ok=True)
    coming = Path(tempfile.mkdtemp(prefix="coming-", dir=kept.parent))
    goal = ["dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={coming}"]
    try:
        with as_file(JARS) as pom:
            command = [maven, "--quiet", "--batch-mode", "--file", str(pom), *goal]
            fetched = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        if fetched.returncode:
            raise NoKafka("Maven could not fetch its jars")
        coming.chmod(0o755)
        with suppress(OSError):  # Somebody else was quicker.
            coming.rename(kept)
    except subprocess.TimeoutExpired as error:
        raise NoKafka(f"Maven did not fetch its jars within {FETCH_SECONDS:.0f} s") from error
    finally:
        shutil.rmtree(coming, ignore_errors=True)
    return kept


def _cache() -> Path:
    if chosen := os.environ.get("HOMEROOM_CACHE"):
        return Path(chosen)
    repository = Path(__file__).resolve().parents[5]
    return repository / ".cache" if (repository / "Makefile").exists() else Path.home() / ".cache" / "homeroom"


def _listeners(port: int, controller: int, *, advertised: str, host: str = "127.0.0.1") -> dict[str, str]:
    return {
        "listeners": f"PLAINTEXT://{host}:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://{advertised}",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _marks(log: bytes) -> int:
    """How often the log says that the broker is up."""
    return log.count(b"Kafka Server started")


def _until(reached: Callable[[], bool], origin: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not reached():
        if time.monotonic() > deadline:
            raise NoKafka(f"the broker ({origin}) was not up within {START_SECONDS:.0f} s")
        time.sleep(0.05)


_used: list[str] = []


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """A real Kafka that lives as long as the test session."""
    try:
        broker = _start()
    except NoKafka as error:
        _used.append(f"bus: tests on Apache Kafka skipped: {error}")
        if os.environ.get("HOMEROOM_REQUIRE_KAFKA") == "1":
            pytest.fail(f"HOMEROOM_REQUIRE_KAFKA=1, but there is no Kafka: {error}")
        pytest.skip(f"no Apache Kafka here: {error}")
    _used.append(f"bus: Apache Kafka {broker.version} (real broker, {broker.origin})")
    yield broker
    broker.stop()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one line on which Kafka the tests ran, or why they did not."""
    for line in _used:
        terminalreporter.write_line(line)
