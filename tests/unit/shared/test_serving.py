"""What the HTTP server needs before it starts: a token unless it is alone with this machine, and its packages."""

import importlib.util
import subprocess
import sys

import pytest

from producers.stack.services import serve_command
from shared import serving
from shared.errors import RequestError, SettingsError
from shared.settings import Settings, read_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_alone_needs_no_token(host):
    assert serve_command(Settings(serve_host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example"])
def test_an_address_of_others_needs_a_token(host):
    with pytest.raises(RequestError, match="no token is set"):
        serve_command(Settings(serve_host=host))
    assert serve_command(Settings(serve_host=host, serve_tokens="rates:" + "x" * 20))


@pytest.mark.parametrize("tokens", [",", " ", " , ,", "\n"])
def test_a_value_without_a_token_is_refused(monkeypatch, tokens):
    monkeypatch.setenv("SCORING_SERVE_TOKENS", tokens)
    with pytest.raises(SettingsError, match="SCORING_SERVE_TOKENS"):
        read_settings()


def test_a_file_without_a_token_is_refused(monkeypatch, tmp_path):
    file = tmp_path / "tokens"
    file.write_text(",\n")
    monkeypatch.setenv("SCORING_SERVE_TOKENS_FILE", str(file))
    with pytest.raises(SettingsError, match="SCORING_SERVE_TOKENS_FILE"):
        read_settings()


def test_without_the_extra_the_command_to_install_it_is_shown(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in serving.PACKAGES else real(name, *more))
    with pytest.raises(RequestError) as caught:
        serve_command(Settings())
    assert "fastapi" in str(caught.value)
    assert "pip install" in caught.value.next_step


def test_the_program_itself_shows_the_command_too(tmp_path):
    code = """
import importlib.util, sys
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "fastapi" else real(name, *more)
from workers.serving.__main__ import main
sys.exit(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == RequestError("x", next_step="y").exit_code
    assert done.stderr.count("\n") <= 2
    assert "pip install" in done.stderr
