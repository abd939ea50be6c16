"""Output that cannot be written is one sentence or silence, whatever the command; what a table holds commands no terminal."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from producers.cli import root
from producers.display import facts, terminal
from producers.display.consoles import PlainConsole
from producers.releases.promoting import promote
from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.jobs.folder import JobFolder
from shared.text.plain import plain
from tests.handmade import TABLE, make_job, publish_handmade, row, run_job, write_table

COMMANDS = [
    ["jobs", "list"],
    ["jobs", "list", "--json"],
    ["jobs", "show", "{job}"],
    ["models", "list"],
    ["models", "show", "v1"],
    ["results", "list"],
    ["results", "show", "{job}"],
    ["results", "head", "{job}"],
    ["results", "rejects", "{job}"],
    ["schedule", "list"],
    ["--help"],
]
STREAMS = ["full", "closed", "broken", "ascii", "all closed"]

HARNESS = """
import io, json, os, sys, tempfile
import producers.cli
import producers.display.facts
import producers.releases.finding
import producers.results.finding
import producers.display.jobs
import producers.display.releases
import producers.display.results
import producers.schedule.scheduler
import producers.schedule.run_states
import producers.results.rejects
import rich.table
for streams, arguments in json.load(sys.stdin):
    errors = tempfile.TemporaryFile()
    pid = os.fork()
    if not pid:
        os.dup2(errors.fileno(), 2)
        if streams == "full":
            os.dup2(os.open("/dev/full", os.O_WRONLY), 1)
        elif streams == "broken":
            read, write = os.pipe()
            os.close(read)
            os.dup2(write, 1)
        elif streams == "ascii":
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stdout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, "w", closefd=False)), encoding="ascii", errors="strict")
        else:
            for number, name in ((1, "stdout"), *([(0, "stdin"), (2, "stderr")] if streams == "all closed" else [])):
                os.close(number)
                setattr(sys, name, None)
        sys.argv = ["scoring", *arguments]
        try:
            producers.cli.main()
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code = repr(error)
        if isinstance(code, int):
            sys.stdout.flush()
        os._exit(code if isinstance(code, int) else 99)
    _, status = os.waitpid(pid, 0)
    errors.seek(0)
    print(json.dumps([os.waitstatus_to_exitcode(status), errors.read().decode()]))
"""

HOSTILE = "\x1b[2J\x1b]0;pwned\x07\x9b31m\x7f\u202eabc\u2066\u2028\x85\x0b\r"
COMMANDING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> JobFolder:
    """A job with a result and rejects, whose table has a name that ASCII lacks."""
    bucket = LocalBucket(tmp_path_factory.mktemp("streams") / "bucket")
    publish_handmade(bucket)
    table = "data/predict/input/2026/11/23/Schlüssel/日本語.csv"
    write_table(bucket, [*(row(number) for number in range(5)), f'"{HOSTILE.replace(chr(13), "")}",0,0,0,1,Tablet'], path=table)
    folder = make_job(bucket, table=table, max_reject_share=1.0)
    assert run_job(folder).state == "done"
    return folder


def test_output_that_cannot_be_written_ends_no_command_in_a_traceback(done):
    cases = [(streams, [word.format(job=done.job_id) for word in command]) for command in COMMANDS for streams in STREAMS]
    harness = subprocess.run(
        [sys.executable, "-c", HARNESS],
        input=json.dumps(cases),
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=True,
        env=os.environ | {"BUCKET_URL": done.bucket.url, "PYTHONPATH": str(Path(root.__file__).parents[2])},
    )
    ended = [json.loads(line) for line in harness.stdout.splitlines()]
    assert len(ended) == len(cases)
    for (streams, arguments), (code, said) in zip(cases, ended, strict=True):
        about = (streams, arguments, said)
        assert code == {"full": 6, "broken": 141}.get(streams, 0), about
        assert "Traceback" not in said, about
        if streams == "full":
            assert said.startswith("Error: the output cannot be written: No space left on device.\n"), about
            assert len(said.splitlines()) == 2, about
        else:
            assert said == "", about


def test_an_ascii_terminal_gets_escapes_for_the_characters_it_lacks(done):
    said = subprocess.run(
        [sys.executable, "-m", "producers.cli", "jobs", "list"],
        capture_output=True,
        encoding="ascii",
        timeout=60,
        check=False,
        cwd=Path(root.__file__).parents[2],
        env=os.environ | {"BUCKET_URL": done.bucket.url, "PYTHONIOENCODING": "ascii"},
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert done.job_id in said.stdout
    assert r"Schl\xfcssel" in said.stdout


def test_a_defect_is_one_sentence_with_its_place(monkeypatch, capsys):
    def broken(**_: object) -> int:
        return {}["x"]

    monkeypatch.setattr(root.scoring, "main", broken)
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert re.search(
        r"^Error: a defect in this program, in tests/unit/producers/display/test_streams.py, line \d+: KeyError\('x'\)\.$", said, re.M
    )
    assert "Traceback" not in said


# --- what a table holds


def test_each_character_that_commands_a_terminal_is_written_out():
    assert plain("a\x1b[2Jb\x07\x7f\x9b") == r"a\x1b[2Jb\x07\x7f\x9b"
    assert plain("\u202ex\u2066\u2028\n\t") == r"\u202ex\u2066\u2028\n\t"
    assert plain("a\nb\r", lines=True) == "a\nb\\r"
    assert plain("Schlüssel 日本語 '-[x]\\") == "Schlüssel 日本語 '-[x]\\"
    for code in [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x2028, 0x2029]:
        assert plain(chr(code)).isascii()
        assert plain(chr(code)).isprintable()


@pytest.mark.parametrize(
    "command", [("results", "rejects", "{job}"), ("jobs", "show", "{job}"), ("results", "show", "{job}"), ("jobs", "list")]
)
def test_no_command_sends_what_a_table_holds_to_the_terminal(done, command):
    said = CliRunner().invoke(root.scoring, [word.format(job=done.job_id) for word in command], env={"BUCKET_URL": done.bucket.url})
    assert said.exit_code == 0
    assert COMMANDING.search(said.stdout) is None
    if command[1] == "rejects":
        assert r"\x1b[2J\x1b]0;pwned\x07\x9b31m\x7f\u202eabc\u2066\u2028\x85\x0b" in said.stdout


def test_neither_errors_nor_reasons_nor_names_command_the_terminal(tmp_path, capsys):
    bucket = LocalBucket(tmp_path / "bucket")
    write_table(bucket, [row(1)])
    release = publish_handmade(bucket)
    promote(bucket, release, "champion", reason=HOSTILE)
    failed = make_job(bucket, table=TABLE)
    failed.fail(RequestError(f"the row {HOSTILE}\n is wrong", next_step=f"Correct {HOSTILE}"))
    bucket.write("config/schedule.yaml", json.dumps([{"name": HOSTILE, "cron": HOSTILE}]).encode())
    for command in (("models", "history"), ("jobs", "list"), ("jobs", "show", failed.job_id), ("jobs", "show", failed.job_id, "--follow")):
        said = CliRunner().invoke(root.scoring, list(command), env={"BUCKET_URL": bucket.url, "REDIS_URL": "redis://127.0.0.1:1/0"})
        assert COMMANDING.search(said.stdout + said.stderr) is None, command
    checked = CliRunner().invoke(root.scoring, ["schedule", "check"], env={"BUCKET_URL": bucket.url})
    assert COMMANDING.search(checked.stdout) is None
    assert r"\x1b[2J" in checked.stdout
    terminal.say_error(f"no {HOSTILE}", f"first\nsecond {HOSTILE}")
    assert COMMANDING.search(capsys.readouterr().err) is None


def test_a_console_writes_styles_of_its_own_and_none_of_a_table():
    text = io.StringIO()
    console = PlainConsole(file=text, width=80, force_terminal=True, color_system="standard")
    facts.print_facts(console, {"name": HOSTILE})
    assert "\x1b[2mname" in text.getvalue()
    assert r"\x1b[2J" in text.getvalue()
    assert "\x1b[2J" not in text.getvalue()
