"""The processes of a stack, ready to run: one that has imported the libraries forks itself for each, which saves seconds of CPU a process.

What is forked has its own session, environment, streams, signals, command line and exit code, as if it were a program of its own. None of
our modules that reads the environment when it is imported is imported before the fork. A launcher that is forked forks its workers,
beat and Flower in the same way, tied to it as the product ties them; a worker that is to load a release asks for a fork as the tests do,
and so does what checks a definition in another process. What replaces itself by another program goes on as that one. That the real
programs work as well is shown by the tests of ``scoring up`` and of ``scoring run``, of the containers, of the cold start, of
``scoring models check`` and of misbehaving definitions, which start those.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import IO, Any, NoReturn

REPOSITORY = Path(__file__).resolve().parents[1]
# one thread each, as the product has it: OpenMP's and OpenBLAS' threads do not survive a fork
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
IMPORTED = (
    *("celery.__main__", "celery.bin.celery", "celery.bin.worker", "celery.apps.worker", "celery.concurrency.prefork", "celery.apps.beat"),
    *("kombu.transport.redis", "flower.command", "flower.app", "producers.cli", "producers.stack.launcher", "rich.progress", "rich.table"),
    *("pandas", "pyarrow.feather", "pyarrow.parquet", "skops.io", "sklearn.ensemble", "sklearn.linear_model", "lightgbm", "s3fs", "gcsfs"),
    *("model_store.isolated_loading", "workers.scoring.publishing", "workers.training.releasing"),
)
PROGRAM = "producers.stack.celery_program"
LOADER = "model_store.isolated_loading"
CHECKERS = ("model_store.checks", "pytest")
"""Programs that check a definition, in another process too."""
# options of prctl (linux/prctl.h)
PARENT_DEATH_SIGNAL, CHILD_SUBREAPER = 1, 36
_run = subprocess.run
ROOM = "-" * 800
"""An argument that leaves room for the command lines of the forks."""


class ReadyPrograms:
    """What starts programs; nothing is imported before the first."""

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> "Started":
        """As ``Popen([sys.executable, "-m", *arguments])`` in the checkout, in a session of its own, with nothing to read."""
        if sys.platform != "linux":  # only there a fork can be made a child of another process, and show another command
            command = [sys.executable, *([] if arguments[0] == "-c" else ["-m"]), *arguments]
            more = {"cwd": REPOSITORY, "env": environment, "stdout": log, "stderr": log, "stdin": subprocess.DEVNULL}
            return subprocess.Popen(command, start_new_session=True, **more)
        return Program(_ask(self.line, [log.fileno()]), arguments, environment)

    def run(self, command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
        """As ``subprocess.run`` with ``text``: Python with ``-m`` or ``-c`` is forked, in the checkout; others are started as ever."""
        return run_forked(self.line, command, **options) if sys.platform == "linux" else _run(command, **options)

    def start_loader(self, folder: Path, first: int, definitions: Path | None) -> Any:
        """As ``isolated_loading.FreshInterpreter``."""
        if sys.platform != "linux":
            from model_store.isolated_loading import FreshInterpreter

            return FreshInterpreter(folder, first, definitions)
        return _start_loader(self.line, folder, first, definitions)

    @property
    def line(self) -> socket.socket:
        """Where forks are asked for."""
        return SERVER.line


class ForkServer:
    """Starts a process that forks for each message, once for all processes that share the tests; it imports nothing before the first."""

    def __init__(self, module: str) -> None:
        self._module = module
        self._variable = f"TESTS_{module.rpartition('.')[2].upper()}"
        """The environment variable that tells the other processes the address."""
        self._line: socket.socket | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def line(self) -> socket.socket:
        """Where forks are asked for."""
        with self._one_at_a_time:
            if self._line is None:
                self._line = self._connect()
            return self._line

    def share(self) -> None:
        """Starts the process for this process and for those that it is to start."""
        if sys.platform != "linux":  # only there an address may be a name that is no file
            return
        address = f"{self._variable}-{os.getpid()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asked:
            asked.bind("\0" + address)
            self._start(asked)
        os.environ[self._variable] = address

    def _connect(self) -> socket.socket:
        if address := os.environ.get(self._variable):
            line = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            line.connect("\0" + address)
            return line
        line, theirs = socket.socketpair()
        with theirs:
            self._start(theirs)
        return line

    def _start(self, asked: socket.socket) -> None:
        self._life, life = socket.socketpair()
        with life:
            program = f"from {self._module} import serve; serve({asked.fileno()}, {life.fileno()})"
            # a session of its own: Ctrl-C is for the tests, and it ends when this process is gone
            self._process = subprocess.Popen(
                [sys.executable, "-c", program, ROOM],
                cwd=REPOSITORY,
                env=os.environ | ONE_THREAD,
                stdin=subprocess.DEVNULL,
                pass_fds=[asked.fileno(), life.fileno()],
                start_new_session=True,
            )


SERVER = ForkServer("tests.ready_programs")


class Program:
    """One of them, to be handled as a ``Popen``."""

    def __init__(self, ours: socket.socket, arguments: Sequence[str], environment: Mapping[str, str], folder: Path = REPOSITORY) -> None:
        self.args = [*arguments]
        self.returncode: int | None = None
        self._ours, self._call = ours, ours.makefile("rw")
        self._one_at_a_time = threading.Lock()
        self._call.write(json.dumps([self.args, dict(environment), str(folder)]) + "\n")
        self._call.flush()
        self.pid = int(self._call.readline())

    def poll(self) -> int | None:
        return self._look(0)

    def _look(self, seconds: float | None) -> int | None:
        with self._one_at_a_time:
            if self.returncode is None and wait([self._ours], seconds):
                self.returncode = int(self._call.readline())
                self._call.close()
                self._ours.close()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        code = self._look(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended this moment
                os.kill(self.pid, number)

    def kill_group(self) -> None:
        """Kills it with all that it started, and waits for its end."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self.wait(20)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


Started = Program | subprocess.Popen[bytes]


def run_forked(
    line: socket.socket, command: Sequence[str], *, timeout: float | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """As ``ReadyPrograms.run``, for who has the line."""
    if command[0] != sys.executable:
        return _run(command, timeout=timeout, **options)
    with contextlib.ExitStack() as kept:
        captured = [kept.enter_context(tempfile.TemporaryFile()) if _is_captured(name, options) else None for name in ("stdout", "stderr")]
        streams = [file.fileno() if file else number for number, file in enumerate(captured, start=1)]
        started = Program(_ask(line, streams), [*command[1 + (command[1] == "-m") :]], options.get("env", os.environ))
        try:
            code = started.wait(timeout)
        finally:
            started.kill()
        return subprocess.CompletedProcess([*command], code, *(file and _text(file) for file in captured))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _is_captured(name: str, options: Mapping[str, Any]) -> bool:
    return options.get("capture_output", False) or options.get(name) == subprocess.PIPE


def _ask(line: socket.socket, streams: Sequence[int]) -> socket.socket:
    """Ask for a fork with this standard output and standard error, or one for both; returns the line on which it waits for its command."""
    ours, theirs = socket.socketpair()
    with theirs:
        socket.send_fds(line, [b"!"], [*streams, theirs.fileno()])
    return ours


def serve(asked: int, line: int) -> None:
    """Forks for each message; returns when the line is closed."""
    of_forks, for_forks = socket.socketpair()
    with socket.socket(fileno=asked) as of_tests, socket.socket(fileno=line) as life:
        if life in wait([of_tests, life]):
            return
        for name in IMPORTED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while given := receive([of_tests, of_forks], life):
            if not os.fork():
                break
            for number in given:
                os.close(number)
        else:
            return
    of_forks.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    *streams, answer = given
    with socket.socket(fileno=answer) as ours, ours.makefile("rw") as call:
        arguments, environment, folder = json.loads(call.readline())
        reading, writing = os.pipe()
        pid = os.fork()
        if pid:
            for number in (reading, *streams):
                os.close(number)
            print(pid, file=call, flush=True)
            os.close(writing)
            for_forks.close()
            if LOADER in arguments:
                _kill_without(ours, pid)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(OSError):  # nobody is left who waits for it
                print(os.waitstatus_to_exitcode(status), file=call, flush=True)
            os._exit(0)
    os.close(writing)
    os.read(reading, 1)  # the caller knows our process id before we do anything
    os.setsid()
    if LOADER in arguments:
        arguments[1] = str(os.getppid())
    os.chdir(folder)
    _become_for_good(arguments, environment, streams, line=for_forks)


def receive(asked: Sequence[socket.socket], life: socket.socket) -> list[int]:
    """The file descriptors of the next message; none when those that ask are gone."""
    ready = wait([life, *asked])
    return [] if life in ready else socket.recv_fds(ready[0], 1, 4)[1]


def _kill_without(line: socket.socket, pid: int) -> None:
    """Waits for the end of a process, and kills it with all that it started when the process that asked for it is gone."""
    fd = os.pidfd_open(pid)
    ready = wait([fd, line])
    if fd not in ready:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os.close(fd)


def _become(
    arguments: Sequence[str], environment: Mapping[str, str], streams: Sequence[int], keeps: Sequence[int] = (), *, line: socket.socket
) -> None:
    """In a fork: what a new interpreter with these arguments would be; returns when it is done."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for mine, its in ((nothing, 0), (streams[0], 1), (streams[-1], 2)):
        os.dup2(mine, its)
    kept = sorted({0, 1, 2, *keeps, line.fileno()})
    for last, following in zip(kept, [*kept[1:], os.sysconf("SC_OPEN_MAX")], strict=True):
        os.closerange(last + 1, following)
    for number in keeps:
        os.set_inheritable(number, True)
    _reset_signals()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for name, number in (("stdout", 1), ("stderr", 2)):
        setattr(sys, name, open(number, "w", buffering=1, closefd=False, errors="backslashreplace"))  # noqa: SIM115
    if arguments[0] == "-c":
        _, code, *sys.argv[1:] = arguments
        exec(code, {"__name__": "__main__"})
        return
    if "fsspec.config" in sys.modules:
        from fsspec.config import conf, set_conf_env

        conf.clear()
        set_conf_env(conf)  # read when it was imported, from an environment that was another one
    _customize(environment.get("PYTHONPATH", ""))
    module, *sys.argv[1:] = arguments
    _show_command_line(module, sys.argv[1:])
    if module == "producers.cli":
        from producers.stack import child

        child.subprocess = _Subprocess(line)  # type: ignore[assignment]
        os.execve = lambda _, command, environment: _become_for_good(command[2:], environment, (1, 2), line=line)
    elif module == LOADER:
        os.dup2(0, 1)
    elif module in CHECKERS:
        fork_interpreters(line)
    elif module == "benchmarks":
        from benchmarks import stack

        stack.subprocess = _Interpreters(line)  # type: ignore[assignment]
    else:
        from model_store import isolated_loading

        isolated_loading.start_loader = functools.partial(_start_loader, line)
    # as in a new interpreter, it is the main module and no other
    sys.modules.pop(f"{module}.__main__" if hasattr(sys.modules.get(module), "__path__") else module, None)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def fork_interpreters(line: socket.socket) -> None:
    """Fork each interpreter that this process is to run from now on."""
    subprocess.run = functools.partial(run_forked, line)  # type: ignore[assignment]


def _customize(path: str) -> None:
    """As a new interpreter does it: run the ``sitecustomize`` that is found on the path for modules."""
    for folder in path.split(os.pathsep):
        if folder and (found := Path(folder, "sitecustomize.py")).exists():
            runpy.run_path(str(found))
            return


def _show_command_line(module: str, arguments: Sequence[str]) -> None:
    """Lets others find this process by its command; an option of no meaning fills the room that it does not need."""
    start, end = map(int, Path("/proc/self/stat").read_text().rpartition(")")[2].split()[45:47])
    short = sum(len(os.fsencode(word)) + 1 for word in (sys.executable, "-X", "", "-m", module, *arguments))
    assert short <= end - start, "there is no room for so long a command"
    command = [sys.executable, "-X", "-" * (end - start - short), "-m", module, *arguments]
    ctypes.memmove(start, b"".join(os.fsencode(word) + b"\0" for word in command), end - start)


def _reset_signals() -> None:
    """As a new interpreter has them: what is ignored stays so, and what was caught is not."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])


def _start_loader(line: socket.socket, folder: Path, first: int, definitions: Path | None) -> "Loader":
    """As ``isolated_loading.FreshInterpreter``."""
    arguments = [LOADER, "", str(folder), str(first), *([str(definitions)] if definitions else [])]
    return Loader(_ask(line, [2]), arguments, os.environ, Path.cwd())


class Loader(Program):
    """A process that loads releases; it ends with the one that asked for it."""

    def kill(self) -> None:
        self.kill_group()


class _Interpreters:
    """The module ``subprocess`` of the benchmarks: Python with ``-m`` is forked, with one output in the checkout."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: Sequence[str], *, env: Mapping[str, str], stdout: IO[bytes], **_: Any) -> Program:  # noqa: N802 - as there
        return Program(_ask(self._line, [stdout.fileno()]), command[2:], env)


class _Subprocess:
    """The module ``subprocess`` of a launcher: a program of Celery's is forked, any other one is started as ever."""

    def __init__(self, line: socket.socket) -> None:
        self._nursery = _Nursery(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)

    def Popen(self, command: Sequence[str], **options: Any) -> "subprocess.Popen[bytes] | Fork":  # noqa: N802 - as there
        if PROGRAM in command:
            return self._nursery.start(command[command.index(PROGRAM) :], options["env"], options["pass_fds"])
        return subprocess.Popen(command, **options)


class _Nursery:
    """A process that a launcher has forked before it did anything, with no connection, lock or thread of its own, and that forks for it.

    What is forked becomes a child of the launcher, as a program that it starts is.
    """

    def __init__(self, line: socket.socket) -> None:
        self._parent = os.getpid()
        self._asked, asked = socket.socketpair()
        with asked:
            if not os.fork():
                self._asked.close()
                _serve_launcher(self._parent, asked, line)

    def start(self, arguments: Sequence[str], environment: Mapping[str, str], keeps: Sequence[int]) -> "Fork":
        prctl = ctypes.CDLL(None).prctl
        reading, writing = os.pipe()
        ours, theirs = socket.socketpair()
        prctl(CHILD_SUBREAPER, 1)  # whose parent has ended becomes a child of ours
        try:
            with ours, ours.makefile("rw") as call:
                with theirs:
                    socket.send_fds(self._asked, [b"!"], [theirs.fileno(), writing, *keeps])
                os.close(writing)
                call.write(json.dumps([arguments, dict(environment)]) + "\n")
                call.flush()
                pid = int(call.readline())
        finally:
            prctl(CHILD_SUBREAPER, 0)
        return Fork(pid, reading)


def _serve_launcher(launcher: int, asked: socket.socket, line: socket.socket) -> NoReturn:
    """Forks a program for each message of the launcher, until it is gone."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    while True:
        message, given, *_ = socket.recv_fds(asked, 1, 8)
        if not message:
            os._exit(0)
        if not os.fork():
            break
        for number in given:
            os.close(number)
    if os.fork():
        os._exit(0)
    asked.close()
    with socket.socket(fileno=given[0]) as ours, ours.makefile("rw") as call:
        arguments, environment = json.loads(call.readline())
        while os.getppid() != launcher:
            time.sleep(0.001)
        os.setsid()
        ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)
        print(os.getpid(), file=call, flush=True)
    if os.getppid() != launcher:
        os._exit(1)
    os.chdir(REPOSITORY)
    _become_for_good(arguments, environment, given[1:2], given[2:], line=line)


def _become_for_good(arguments: Sequence[str], environment: Mapping[str, str], *more: Sequence[int], line: socket.socket) -> NoReturn:
    """As ``_become``, to the end."""
    run_to_the_end(lambda: _become(arguments, environment, *more, line=line))


def run_to_the_end(program: Callable[[], None]) -> NoReturn:
    """Run the program of a fork, and end as an interpreter does.

    Only what was imported stays as it is: to clear it takes a tenth of a second of CPU, most of it to copy what is shared with others.
    """
    code = 1
    try:
        program()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        if isinstance(ended.code, str):
            sys.stderr.write(f"{ended.code}\n")
    except KeyboardInterrupt:
        sys.excepthook(*sys.exc_info())
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:  # noqa: BLE001 - the exit code of a program that raised
        sys.excepthook(*sys.exc_info())
    finally:
        _end(code)


class Fork:
    """A child of this process, to be handled as a ``Popen``."""

    def __init__(self, pid: int, output: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout = os.fdopen(output, "rb")
        self._one_at_a_time = threading.Lock()

    def poll(self) -> int | None:
        return self._look(os.WNOHANG)

    def wait(self) -> int:
        code = self._look(0)
        assert code is not None
        return code

    def _look(self, how: int) -> int | None:
        with self._one_at_a_time:
            if self.returncode is None:
                pid, status = os.waitpid(self.pid, how)
                if pid:
                    self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _end(code: int) -> NoReturn:
    """As an interpreter ends: the functions that were registered for that are called, and what was printed is out."""
    for last in (threading._shutdown, atexit._run_exitfuncs, sys.stdout.flush):  # type: ignore[attr-defined]
        with contextlib.suppress(BaseException):
            last()
    os._exit(code)
