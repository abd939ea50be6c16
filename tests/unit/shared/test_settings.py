"""Settings from files: what container platforms hand out as secrets."""

import os

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import SettingsError
from shared.processes import limit_new_files
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
    assert {*SECRETS} == {"REDIS_URL", "WEBHOOK_URL", "SCORING_STORE_KEY", "SCORING_FLOWER_PASSWORD", "SCORING_SERVE_TOKENS"}


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
    assert "cannot be read: it is not text" in refusal(monkeypatch, WEBHOOK_URL_FILE=tmp_path / "secret")


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


# --- the key of the store at home


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("SCORING_HOME", str(tmp_path))
    return tmp_path


def put_key(home, text="a key of some length", mode=0o600):
    (home / "store-key").write_text(text)
    (home / "store-key").chmod(mode)


def test_the_key_that_lies_at_home_is_found_by_every_command(home):
    assert not read_settings().signer.keys
    put_key(home)
    assert read_settings().signer.keys == (b"a key of some length",)


def test_a_key_that_is_set_goes_before_the_one_at_home(home, monkeypatch, tmp_path):
    put_key(home)
    monkeypatch.setenv("SCORING_STORE_KEY", "another key of some length")
    assert read_settings().signer.keys == (b"another key of some length",)
    monkeypatch.delenv("SCORING_STORE_KEY")
    (tmp_path / "elsewhere").write_text("a third key of some length")
    monkeypatch.setenv("SCORING_STORE_KEY_FILE", str(tmp_path / "elsewhere"))
    assert read_settings().signer.keys == (b"a third key of some length",)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(home, monkeypatch, mode):
    put_key(home, mode=mode)
    said = refusal(monkeypatch)
    assert said.startswith(f"the key of the store {home / 'store-key'} is not a file that only you can read. Type: chmod 600")


def test_a_key_that_is_a_link_or_empty_is_refused(home, monkeypatch, tmp_path):
    (tmp_path / "other").write_text("a key of some length")
    (home / "store-key").symlink_to(tmp_path / "other")
    assert "is not a file that only you can read" in refusal(monkeypatch)
    (home / "store-key").unlink()
    put_key(home, " ")
    assert f"the key of the store {home / 'store-key'} is empty" in refusal(monkeypatch)


# --- what is secret


def test_no_secret_is_in_what_is_printed_of_settings(monkeypatch):
    secrets = {
        "REDIS_URL": "rediss://scoring:s3cret-one@redis.example/0",
        "WEBHOOK_URL": "https://hooks.example/T0/B0/s3cret-two",
        "SCORING_STORE_KEY": "s3cret-three of some length",
        "SCORING_FLOWER_PASSWORD": "s3cret-four",
        "SCORING_SERVE_TOKENS": "rates:s3cret-five-of-some-length",
    }
    assert {*secrets} == {*SECRETS}, "a new secret belongs into this test"
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    settings = read_settings()
    for shown in (repr(settings), str(settings), f"{settings!r:>200}"):
        assert "s3cret" not in shown


# --- rights of new files


@pytest.mark.parametrize(
    ("umask", "file", "folder"), [(None, 0o600, 0o700), ("077", 0o600, 0o700), ("027", 0o640, 0o750), ("022", 0o644, 0o755)]
)
def test_new_files_are_for_their_owner_alone_unless_the_setting_says_otherwise(tmp_path, monkeypatch, umask, file, folder):
    if umask is not None:
        monkeypatch.setenv("SCORING_UMASK", umask)
    before = os.umask(0o022)
    try:
        limit_new_files(read_settings().umask)
        bucket = LocalBucket(tmp_path / "bucket")
        bucket.write("jobs/one/part", b"1")
        bucket.create("jobs/one/job.json", b"1")
        bucket.copy("jobs/one/part", "jobs/one/copy")
    finally:
        os.umask(before)
    assert {bucket.place(f"jobs/one/{name}").stat().st_mode & 0o777 for name in ("part", "job.json", "copy")} == {file}
    assert bucket.place("jobs/one").stat().st_mode & 0o777 == folder


@pytest.mark.parametrize("umask", ["8", "77", "00777", "u=rwx", ""])
def test_a_umask_that_is_none_is_refused(monkeypatch, umask):
    assert "SCORING_UMASK" in refusal(monkeypatch, SCORING_UMASK=umask)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("BUCKET_URL", "ftp://host", "the value 'ftp://host' that cannot be used: must be a folder or start with s3:// or gs://"),
        ("SCORING_REDIS_PORT", "abc", "the value 'abc' that cannot be used: it must be a valid integer"),
    ],
)
def test_a_setting_is_refused_in_plain_words(monkeypatch, name, value, words):
    monkeypatch.setenv(name, value)
    with pytest.raises(SettingsError) as refused:
        read_settings()
    assert words in refused.value.message
    assert "Value error" not in refused.value.message
