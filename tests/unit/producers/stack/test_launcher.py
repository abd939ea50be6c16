"""What ``scoring up`` refuses before anything is started, and how it treats one process."""

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from producers.stack import child as stack_child
from producers.stack import server as stack_server
from producers.stack import services
from producers.stack.child import Child
from producers.stack.launch.environment import child_environment, exports
from producers.stack.launch.preflight import sole_use
from producers.stack.launch.stop_signals import ONE_SIGNAL_SECONDS, StopSignals
from producers.stack.launcher import Options, Stack, run_stack
from shared.errors import BrokerError, BucketError, RequestError
from shared.settings import Settings
from tests.conftest import free_ports


def settings_in(folder, **more):
    redis_port, flower_port = free_ports(2)
    return Settings(**{"redis_url": "", "home": folder / "home", "redis_port": redis_port, "flower_port": flower_port, **more})


def wait_for(condition, seconds=20):
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def no_start(monkeypatch):
    def start(*_, **__):
        pytest.fail("a process was started")

    monkeypatch.setattr(subprocess, "Popen", start)


@pytest.mark.parametrize(("field", "variable"), [("redis_port", "SCORING_REDIS_PORT"), ("flower_port", "SCORING_FLOWER_PORT")])
def test_a_busy_port_is_refused_with_its_user_and_what_to_do(tmp_path, no_start, field, variable):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(RequestError) as caught:
            run_stack(settings_in(tmp_path, **{field: port}), Options())
    name = psutil.Process().name()
    assert str(caught.value) == f"port {port} is busy (used by {name}, pid {os.getpid()}). Stop it, or set {variable} to another port."


def test_one_port_for_two_servers_is_refused(tmp_path, no_start):
    (port,) = free_ports(1)
    with pytest.raises(RequestError, match="are the same port"):
        run_stack(settings_in(tmp_path, redis_port=port, flower_port=port), Options())


def test_a_home_in_use_is_refused_and_free_again_afterwards(tmp_path, no_start):
    refused = pytest.raises(RequestError, match=f"runs already on {tmp_path / 'home'}, pid {os.getpid()}")
    with sole_use(tmp_path / "home"), refused:
        run_stack(settings_in(tmp_path), Options())
    with sole_use(tmp_path / "home"):
        pass


def test_a_redis_that_does_not_answer_is_refused_without_its_password(tmp_path, no_start):
    (port,) = free_ports(1)
    with pytest.raises(BrokerError) as caught:
        run_stack(settings_in(tmp_path, redis_url=f"redis://:hunter2@127.0.0.1:{port}/0"), Options())
    assert "does not answer" in caught.value.message
    assert "unset REDIS_URL" in caught.value.next_step
    assert "hunter2" not in str(caught.value)


def test_an_address_that_is_none_is_refused_without_its_password(tmp_path, no_start):
    with pytest.raises(RequestError, match="REDIS_URL is not an address") as caught:
        run_stack(settings_in(tmp_path, redis_url="redis://:hunter/2@127.0.0.1/0"), Options())
    assert "hunter" not in str(caught.value)


@pytest.mark.parametrize(
    "more", [{"flower_password": "a,b"}, {"flower_password": "schlüssel"}, {"flower_user": "a:b"}, {"flower_user": ""}]
)
def test_credentials_that_flower_would_misread_are_refused(tmp_path, no_start, more):
    with pytest.raises(RequestError, match="SCORING_FLOWER_"):
        run_stack(settings_in(tmp_path, **more), Options())


def test_a_home_that_cannot_be_made_is_refused(tmp_path, no_start):
    (tmp_path / "home").write_text("a file")
    with pytest.raises(RequestError, match="cannot be used"):
        run_stack(settings_in(tmp_path), Options())


@pytest.mark.parametrize("bucket", ["/proc/bucket", "{folder}/a file/bucket"])
def test_a_bucket_that_cannot_be_written_is_refused(tmp_path, no_start, bucket):
    (tmp_path / "a file").write_text("")
    with pytest.raises(BucketError, match="bucket") as caught:
        run_stack(settings_in(tmp_path, bucket_url=bucket.format(folder=tmp_path)), Options())
    assert caught.value.next_step


def test_what_another_terminal_needs_can_be_copied(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = settings_in(tmp_path, bucket_url="a bucket")
    line = exports(settings, child_environment(settings, tmp_path / "home"))
    printed = subprocess.run(
        ["bash", "-c", f'{line} && printf "%s\n" "$BUCKET_URL" "$SCORING_HOME" "$SCORING_REDIS_PORT"'],
        capture_output=True, text=True, check=True, cwd="/",
    ).stdout  # fmt: skip
    assert printed.splitlines() == [str(tmp_path / "a bucket"), str(tmp_path / "home"), str(settings.redis_port)]


def test_the_password_of_a_redis_is_not_in_the_line_for_another_terminal(tmp_path):
    settings = settings_in(tmp_path, redis_url="redis://:hunter2@127.0.0.1:6379/0")
    line = exports(settings, child_environment(settings, tmp_path / "home"))
    assert "hunter2" not in line
    assert "REDIS_URL" in line


def test_a_ready_file_in_no_folder_is_refused(tmp_path, no_start):
    with pytest.raises(RequestError, match="ready file"):
        run_stack(settings_in(tmp_path), Options(ready_file=tmp_path / "none" / "ready.json"))


def test_paths_mean_the_same_for_every_process(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    environment = child_environment(Settings(bucket_url="./bucket"), tmp_path / "home")
    assert environment["BUCKET_URL"] == str(tmp_path / "bucket")
    assert environment["SCORING_HOME"] == str(tmp_path / "home")
    assert child_environment(Settings(bucket_url="s3://b/p"), tmp_path)["BUCKET_URL"] == "s3://b/p"


def test_variables_of_another_celery_project_are_not_passed_on(tmp_path, monkeypatch):
    for name in ("CELERY_BROKER_URL", "BROKER_URL", "REMAP_SIGTERM"):
        monkeypatch.setenv(name, "SIGQUIT")
    monkeypatch.setenv("SCORING_LOG", "json")
    environment = child_environment(Settings(), tmp_path)
    assert not {"CELERY_BROKER_URL", "BROKER_URL", "REMAP_SIGTERM"} & {*environment}
    assert environment["SCORING_LOG"] == "json"


def test_no_password_is_on_a_command_line(tmp_path):
    settings = settings_in(tmp_path, flower_password="hunter2")
    environment = services.flower_environment(settings, tmp_path, stack_server.HOST, "hunter2")
    assert environment["FLOWER_BASIC_AUTH"] == "scoring:hunter2"
    assert "hunter2" not in " ".join(stack_server.server_command(settings, tmp_path) + services.flower_command())


def test_the_cookie_secret_is_made_once_and_private(tmp_path):
    first, second = (services.flower_environment(Settings(), tmp_path, stack_server.HOST, "x")["FLOWER_COOKIE_SECRET"] for _ in range(2))
    assert first == second
    assert (tmp_path / "flower" / "cookie-secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "flower").stat().st_mode & 0o777 == 0o700


def started(program, said):
    return Child("score", [sys.executable, "-c", program], dict(os.environ), lambda name, text: said.append((name, text)))


def test_each_line_of_a_process_is_said_with_its_name():
    said = []
    child = started(r"import sys; print('one\n\ntwo'); sys.stdout.flush(); sys.stdout.buffer.write(b'\xff three')", said)
    wait_for(lambda: not child.is_alive)
    child.end()
    assert said == [("score", "one"), ("score", "two"), ("score", "\ufffd three")]
    assert child.ending == "exit code 0"


def test_a_line_without_end_is_cut_into_pieces():
    said = []
    child = started("print('x' * 100_000)", said)
    wait_for(lambda: not child.is_alive)
    child.end()
    assert "".join(text for _, text in said) == "x" * 100_000
    assert max(len(text) for _, text in said) == stack_child.MAX_LINE_BYTES


def test_the_end_of_a_killed_process_is_named_and_nothing_it_started_is_left():
    said = []
    program = "import subprocess, sys, time; print(subprocess.Popen(['sleep', '600']).pid, flush=True); time.sleep(600)"
    child = started(program, said)
    wait_for(lambda: said)
    grandchild = psutil.Process(int(said[0][1]))
    child.send(signal.SIGKILL)
    child.end()
    assert child.ending == "killed by SIGKILL"
    wait_for(lambda: is_gone(grandchild))


def is_gone(process):
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


@contextmanager
def launched(program):
    """A launcher of its own, which starts what ``program`` says and prints the pids, one a line."""
    modules = ("launcher", "child", "server")
    imports = "\n".join(f"from producers.stack.{module} import *" for module in modules)
    program = f"import os, sys, time\n{imports}\nfrom producers.stack.child import python as _python\n{program}\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], cwd=services.ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


SLEEPER = "'import os, time; print(os.getpid(), flush=True); time.sleep(600)'"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent has died")
def test_a_process_does_not_outlive_a_launcher_that_is_killed():
    tied = f"[*_python('-c', TIED_START, str(os.getpid())), sys.executable, '-c', {SLEEPER}]"
    with launched(f"Child('score', {tied}, {{}}, lambda name, text: print(text, flush=True))") as parent:
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    wait_for(lambda: is_gone(child))


def test_the_server_outlives_a_launcher_that_is_killed_until_its_last_worker_has_gone():
    server = f"[*_python('-c', SERVER_START, str(alive[0])), sys.executable, '-c', {SLEEPER}]"
    worker = f"[sys.executable, '-c', {SLEEPER}]"
    said = "lambda name, text: os.write(1, f'{name} {text}\\n'.encode())"  # two threads: a line in one call
    program = f"alive = os.pipe()\nChild('redis', {server}, {{}}, {said}, alive[:1])\nChild('score', {worker}, {{}}, {said}, alive[1:])"
    with launched(program) as parent:
        pids = dict(parent.stdout.readline().split() for _ in range(2))
        server, worker = (psutil.Process(int(pids[name])) for name in ("redis", "score"))
        (guard,) = server.children()
        parent.kill()
    try:
        with pytest.raises(psutil.TimeoutExpired):
            server.wait(timeout=1)
    finally:
        worker.kill()
    wait_for(lambda: is_gone(server) and is_gone(guard))


def test_a_server_that_ends_by_itself_ends_all_and_says_how_to_start_again(tmp_path, capsys):
    stack = Stack(settings_in(tmp_path), Options(), tmp_path)
    stack.server = Child("redis", [sys.executable, "-c", "print('out of memory')"], dict(os.environ), lambda *_: None)
    assert not stack._watch_until(lambda: False, "the server", 20)
    assert stack.exit_code == 1
    assert capsys.readouterr().out.splitlines() == [
        "up      | redis has ended by itself (exit code 0); stopping everything else; start it again with: scoring up. Its last lines:",
        "up      |     redis: out of memory",
    ]


def test_output_is_plain_where_it_is_no_terminal(tmp_path, capsys):
    Stack(settings_in(tmp_path), Options(), tmp_path).say("score", "a line")
    assert capsys.readouterr().out == "score   | a line\n"


def test_an_output_that_nobody_reads_any_more_is_no_error(tmp_path):
    program = (
        "import sys; from pathlib import Path; from producers.stack.launcher import Options, Stack; from shared.settings import Settings\n"
        f"stack = Stack(Settings(), Options(), Path({str(tmp_path)!r})); sys.stdin.read()\n"
        "for _ in range(10): stack.say('up', 'a line')\n"
    )
    reader, writer = os.pipe()
    with subprocess.Popen([sys.executable, "-c", program], cwd=services.ROOT, stdin=subprocess.PIPE, stdout=writer) as process:
        os.close(writer)
        os.close(reader)
        process.communicate(b"", timeout=60)
    assert process.returncode == 0


def test_two_signals_in_a_moment_are_one_request():
    stops = StopSignals()
    with stops.counted():
        for _ in range(2):
            signal.raise_signal(signal.SIGTERM)
        assert stops.count == 1
        wait_for(lambda: time.monotonic() - stops.last > ONE_SIGNAL_SECONDS)
        signal.raise_signal(signal.SIGINT)
        assert stops.count == 2
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_the_root_is_where_the_workers_can_be_imported():
    assert (Path(services.ROOT) / "workers" / "app.py").is_file()
