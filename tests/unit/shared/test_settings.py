"""Settings from files: what container platforms hand out as secrets."""

import pytest

from shared.errors import SettingsError
from shared.settings import SECRETS, read_settings


@pytest.fixture(autouse=True)
def no_secrets(monkeypatch):
    for name in SECRETS:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"{name}_FILE", raising=False)


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("REDIS_URL", "rediss://scoring:pass@redis.example/0", lambda settings: settings.broker_url),
        ("WEBHOOK_URL", "https://hooks.example/T0/B0/x", lambda settings: settings.webhook_url.get_secret_value()),
        ("SCORING_STORE_KEY", "a key of some length, another of some length", lambda settings: settings.store_key.get_secret_value()),
        ("SCORING_FLOWER_PASSWORD", "hunter2", lambda settings: settings.flower_password.get_secret_value()),
    ],
)
def test_a_secret_is_read_from_the_file_that_is_named(tmp_path, monkeypatch, name, value, seen):
    (tmp_path / "secret").write_text(f"{value}\n")
    monkeypatch.setenv(f"{name}_FILE", str(tmp_path / "secret"))
    assert seen(read_settings()) == value


def test_every_secret_has_a_file():
    assert {*SECRETS} == {"REDIS_URL", "WEBHOOK_URL", "SCORING_STORE_KEY", "SCORING_FLOWER_PASSWORD"}


def refusal(monkeypatch, **variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(SettingsError) as caught:
        read_settings()
    return str(caught.value)


def test_a_secret_that_is_given_twice_is_refused(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("redis://one")
    said = refusal(monkeypatch, REDIS_URL="redis://other", REDIS_URL_FILE=tmp_path / "secret")
    assert said == "both REDIS_URL and REDIS_URL_FILE are set. Unset one of them."


def test_a_file_that_is_not_there_is_refused(tmp_path, monkeypatch):
    said = refusal(monkeypatch, SCORING_STORE_KEY_FILE=tmp_path / "none")
    assert said.startswith(f"the file {tmp_path / 'none'}, which SCORING_STORE_KEY_FILE names, cannot be read: No such file or directory")


def test_a_file_that_is_no_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read: it is no text" in refusal(monkeypatch, WEBHOOK_URL_FILE=tmp_path / "secret")


def test_an_empty_file_does_not_switch_signing_off(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text(" \n")
    assert "is empty" in refusal(monkeypatch, SCORING_STORE_KEY_FILE=tmp_path / "secret")


def test_an_empty_file_of_the_webhook_is_no_webhook(tmp_path, monkeypatch):
    monkeypatch.delenv("WEBHOOK_URL", raising=False)
    monkeypatch.setenv("WEBHOOK_URL_FILE", str(tmp_path / "webhook-url"))
    (tmp_path / "webhook-url").touch()
    assert read_settings().webhook_url.get_secret_value() == ""


def test_a_value_that_cannot_be_is_said_of_the_file_and_not_shown(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("short")
    said = refusal(monkeypatch, SCORING_STORE_KEY_FILE=tmp_path / "secret")
    assert "the file that SCORING_STORE_KEY_FILE names" in said
    assert "short" not in said
    (tmp_path / "address").write_text("http://secret@host")
    monkeypatch.delenv("SCORING_STORE_KEY_FILE")
    said = refusal(monkeypatch, REDIS_URL_FILE=tmp_path / "address")
    assert "the file that REDIS_URL_FILE names" in said
    assert "secret" not in said
