"""homeroom.settings."""

from pathlib import Path

import pytest

from homeroom.bus.opening import _secure
from homeroom.settings import Settings, SettingsError

CANARY = "canary-secret-4711"


@pytest.fixture(autouse=True)
def _minimum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOMEROOM_DATABASE_URL", f"postgresql://homeroom:{CANARY}@db/homeroom")
    monkeypatch.setenv("HOMEROOM_ISSUER", "https://homeroom.example/")


def test_addresses_of_sso_follow_from_the_issuer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where keys and tokens are had follows from the issuer, unless it is said otherwise."""
    monkeypatch.setenv("HOMEROOM_TOKEN_URL", "http://sso:8000/oauth2/token")

    settings = Settings.load()

    assert settings.issuer == "https://homeroom.example"
    assert settings.jwks_url == "https://homeroom.example/oauth2/jwks"
    assert settings.token_url == "http://sso:8000/oauth2/token"


def test_values_come_from_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HOMEROOM_X_FILE gives the setting x, without the line's end."""
    (tmp_path / "secret").write_text(f"{CANARY}\n")
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET_FILE", str(tmp_path / "secret"))

    assert Settings.load().client_secret.get_secret_value() == CANARY


def test_two_sources_of_one_value_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nobody has to guess which of a variable and its file wins."""
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET", CANARY)
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET_FILE", str(tmp_path / "secret"))

    with pytest.raises(SettingsError, match="both set"):
        Settings.load()


def test_a_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A secret file that can't be read stops the start and its variable is named."""
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET_FILE", str(tmp_path / "nowhere"))

    with pytest.raises(SettingsError, match=r"HOMEROOM_CLIENT_SECRET_FILE .*No such file"):
        Settings.load()


def test_the_port_file_is_written_not_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """HOMEROOM_PORT_FILE is a setting of its own and no file to read the port from."""
    monkeypatch.setenv("HOMEROOM_PORT_FILE", str(tmp_path / "port"))

    settings = Settings.load()

    assert (settings.port, settings.port_file) == (0, tmp_path / "port")


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every variable that is missing or wrong is named with its purpose, and no value is shown."""
    monkeypatch.delenv("HOMEROOM_DATABASE_URL")
    monkeypatch.setenv("HOMEROOM_ISSUER", f"ftp://{CANARY}")
    monkeypatch.setenv("HOMEROOM_PORT", "eighty")

    with pytest.raises(SettingsError) as caught:
        Settings.load()

    text = str(caught.value)
    assert "HOMEROOM_DATABASE_URL is not set. It is Postgres" in text
    assert "HOMEROOM_ISSUER is wrong: it must be an http or https URL" in text
    assert "HOMEROOM_PORT is wrong" in text
    assert CANARY not in text


def test_printing_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings can be printed and logged without giving a secret away."""
    monkeypatch.setenv("HOMEROOM_CLIENT_SECRET", CANARY)
    monkeypatch.setenv("HOMEROOM_KAFKA_PASSWORD", CANARY)
    settings = Settings.load()

    assert CANARY not in f"{settings} {settings!r} {settings.describe()} {settings.model_dump_json()}"


def test_kafka_is_spoken_to_as_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS and a name and password for Kafka reach its client; without them it is spoken to plainly."""
    assert _secure(Settings.load()) == {}
    monkeypatch.setenv("HOMEROOM_KAFKA_TLS", "true")
    monkeypatch.setenv("HOMEROOM_KAFKA_USERNAME", "homeroom")
    monkeypatch.setenv("HOMEROOM_KAFKA_PASSWORD", CANARY)

    security = _secure(Settings.load())

    assert security["security_protocol"] == "SASL_SSL"
    assert (security["sasl_plain_username"], security["sasl_plain_password"]) == ("homeroom", CANARY)
    assert security["ssl_context"].check_hostname
