"""``scoring notebook`` says what to install, or serves JupyterLab to this machine alone and only with the token."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest
from click.testing import CliRunner

from producers.cli.root import scoring
from shared.errors import RequestError
from tests.conftest import REPOSITORY

installed = importlib.util.find_spec("jupyterlab") is not None


@pytest.mark.skipif(installed, reason="JupyterLab is installed here")
def test_without_jupyterlab_the_command_to_install_it_is_reported():
    result = CliRunner().invoke(scoring, ["notebook"])
    assert isinstance(result.exception, RequestError)
    assert result.exception.message == "JupyterLab is not installed here"
    assert result.exception.next_step.endswith(f"-m pip install -e '{REPOSITORY}[notebook]'")


@pytest.mark.skipif(not installed, reason="JupyterLab is an extra and not installed here")
def test_jupyterlab_answers_on_this_machine_with_the_token_and_refuses_without():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "producers.cli", "notebook", "--no-browser", "--port", str(port)]
    server = subprocess.Popen(command, env={**os.environ, "JUPYTER_TOKEN": "open-sesame"}, cwd=REPOSITORY, stderr=subprocess.DEVNULL)
    try:
        address = f"http://127.0.0.1:{port}/api/contents/analytics"
        deadline = time.monotonic() + 60
        while (status := _status(address, "open-sesame")) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        assert status == 200
        assert _status(address, "guessed") == 403
        listening = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=True).stdout
        assert f"127.0.0.1:{port}" in listening
    finally:
        server.terminate()
        server.wait(30)


def _status(address: str, token: str) -> int | None:
    request = urllib.request.Request(address, headers={"Authorization": f"token {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return None
