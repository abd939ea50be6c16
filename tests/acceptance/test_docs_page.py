"""The page of examples in real Chromium: each example is tried as it stands, and the page loads nothing from elsewhere."""

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page

from tests.chromium import chromium
from tests.conftest import wait_until
from tests.guarded import make_guarded_bucket
from tests.serving import make_service
from workers.serving.http.application import make_application
from workers.serving.http.server import Server
from workers.serving.http.service import Service

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Service, str]]:
    """A server in a thread of this process, on a bucket with a release and a published result."""
    bucket, _ = make_guarded_bucket(tmp_path / "bucket")
    service = make_service(bucket, tmp_path / "home")
    service.swapper.look()
    (tmp_path / "metrics").mkdir()
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path / "metrics"))
    server = Server(make_application(service), service)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        running.start()
        try:
            wait_until(lambda: server.started, 30, "the start of the server")
            yield service, f"http://127.0.0.1:{listening.getsockname()[1]}"
        finally:
            server.should_exit = server.force_exit = True
            running.join(20)


@pytest.fixture
def page() -> Iterator[Page]:
    with chromium(FLAGS) as opened:
        yield opened.new_page()


@pytest.mark.slow
def test_the_examples_of_the_page_work_when_somebody_tries_them(served: tuple[Service, str], page: Page) -> None:
    service, url = served
    problems, asked = [], []
    page.on("console", lambda said: problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/docs")
    tried = {}
    for example in page.locator("section").all():
        path = example.locator("code").inner_text()
        if path.endswith("/why"):
            continue  # a process of its own, with the settings of this process's environment
        example.get_by_role("button", name="Try").click()
        shown = example.locator("pre")
        wait_until(lambda shown=shown: shown.inner_text() not in ("", "..."), 20, f"the answer of {path}")
        status, _, text = shown.inner_text().partition("\n")
        tried[path] = status, text
    assert {status for status, _ in tried.values()} == {"200 OK"}
    rates = json.loads(tried["/v1/rates"][1])
    assert rates["job_id"] == service.serving.published.manifest.job_id
    assert {(rate["status"], rate["source"]) for rate in rates["rates"]} == {("PRESENT", "published")}
    assert json.loads(tried["/v1/rates?source=computed"][1])["rates"][0]["source"] == "computed"
    assert len(tried) >= 8
    # a changed example, and one that is wrong
    first = page.locator("section").first
    for body, wanted in (('{"rows": [{"entity_id": 5, "device": 0}]}', "NOT_FOUND"), ("{", "the body is not JSON")):
        first.locator("textarea").fill(body)
        first.get_by_role("button", name="Try").click()
        wait_until(lambda wanted=wanted: wanted in first.locator("pre").inner_text(), 20, wanted)
    assert [problem for problem in problems if "400" not in problem and "favicon" not in problem] == []
    assert all(address.startswith(url) for address in asked)
