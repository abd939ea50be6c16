"""The command line explains itself, is quick because it imports little, and says by its exit code what kind of thing went wrong."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

import shared.errors
from producers.cli import root
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import point_alias, resolve
from shared.errors import PermanentError, RequestError, ScoringError, TransientError
from shared.jobs.folder import JobFolder, Outcome
from tests.conftest import REPOSITORY, Place, make_place
from tests.handmade import NOON, TABLE, make_job, publish_handmade, row, write_table

HEAVY = ("pandas", "sklearn", "pyarrow", "lightgbm", "numpy", "skops", "workers", "model_store")

EVERY_HELP = """
import contextlib, io, json, sys
from producers.cli.root import scoring
shown = {}
for path in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as text:
        scoring.main([*path, "--help"], standalone_mode=False)
    shown[" ".join(path)] = text.getvalue()
print(json.dumps({"shown": shown, "modules": sorted(sys.modules)}))
"""

ONE_COMMAND = """
import sys
from producers.cli.root import scoring
from shared.errors import ScoringError
try:
    scoring.main(sys.argv[1:], standalone_mode=False)
finally:
    print(*sys.modules, file=sys.stderr)
"""


def commands(command: click.Command = root.scoring, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group with the words that call it."""
    yield path, command
    for name, inner in (command.commands if isinstance(command, click.Group) else {}).items():
        yield from commands(inner, (*path, name))


RUNNABLE = [" ".join(path) for path, command in commands() if not isinstance(command, click.Group)]


@pytest.fixture(scope="module")
def helped() -> dict:
    """What every command says of itself, and the modules that were imported to say so."""
    program = [sys.executable, "-c", EVERY_HELP, json.dumps([path for path, _ in commands()])]
    return json.loads(subprocess.run(program, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True).stdout)


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    """A place with a release and a table, in which nothing runs."""
    place = make_place(tmp_path)
    bucket = LocalBucket(place.bucket)
    publish_handmade(bucket)
    write_table(bucket, [row(0)])
    yield place
    place.webhook.close()


def heavy(modules) -> set[str]:
    return {module.partition(".")[0] for module in modules} & set(HEAVY)


# --- help


def test_every_command_that_was_promised_is_there():
    promised = {"up", "sample", "train", "score", "jobs list", "jobs show", "jobs cancel", "jobs resume"}
    promised |= {"models list", "models show", "models check", "results list", "results show", "results head"}
    assert promised <= set(RUNNABLE)


@pytest.mark.parametrize("command", ["", *RUNNABLE])
def test_the_help_of_every_command_says_what_it_does_and_gives_an_example_that_calls_it(helped, command):
    text = helped["shown"][command]
    example = text.partition("Example")[2]
    assert re.search(rf"^\s+scoring {command}\b", example, re.MULTILINE), text
    assert re.match(r"Usage: .*\n\n  [A-Z].*\.", text), text


def test_every_option_says_what_it_is_for():
    silent = [
        f"{' '.join(path)} {option.opts[0]}"
        for path, command in commands()
        for option in command.params
        if isinstance(option, click.Option) and not option.help and not isinstance(option.type, click.Choice)
    ]
    assert not silent


SERVING = ("up", "run", "health", "serve", "metrics", "notebook")


@pytest.mark.parametrize("command", [command for command in RUNNABLE if command not in (*SERVING, "jobs cancel", "results head")])
def test_every_command_that_prints_data_prints_it_for_programs_too(helped, command):
    assert "--json" in helped["shown"][command]


def test_the_examples_in_the_help_name_options_that_exist(helped):
    by_name = {" ".join(path): command for path, command in commands()}
    for command in RUNNABLE:
        known = {name for option in by_name[command].params for name in option.opts}
        used = re.findall(rf"scoring {command} .*", helped["shown"][command].partition("Example")[2])
        for option in re.findall(r"(?<= )--?[a-z-]+", " ".join(used)):
            assert option in known, f"{command}: {option}"


def test_help_imports_none_of_the_large_libraries(helped):
    assert not heavy(helped["modules"])
    assert not {"celery", "redis", "rich", "fsspec"} & set(helped["modules"])


def test_help_works_whatever_the_environment_says():
    environment = {"PATH": "/usr/bin:/bin", "SCORING_REDIS_PORT": "abc", "BUCKET_URL": "ftp://x", "REDIS_URL": "http://x"}
    command = [sys.executable, "-m", "producers.cli", "score", "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# --- what a producer imports


@pytest.mark.server
@pytest.mark.parametrize("command", [["score", TABLE, "--model", "v1"], ["train", "v1", "--train", TABLE]])
def test_enqueueing_imports_none_of_the_large_libraries(place, redis_url, command):
    program = [sys.executable, "-c", ONE_COMMAND, *command, "--no-wait"]
    environment = place.environment | {"REDIS_URL": redis_url}
    done = subprocess.run(program, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(r"\d{8}t\d{9}z-(score|train)-[0-9a-f]{6}\n", done.stdout)
    modules = done.stderr.split()
    assert "celery" in modules
    assert not heavy(modules) - {"numpy"}
    assert "numpy" not in modules


@pytest.mark.parametrize("command", [["jobs", "list"], ["models", "list"], ["models", "show", "v1"], ["results", "list"]])
def test_looking_imports_none_of_the_large_libraries(place, command):
    program = [sys.executable, "-c", ONE_COMMAND, *command]
    done = subprocess.run(program, cwd=REPOSITORY, env=place.environment, capture_output=True, text=True, timeout=60, check=True)
    assert not heavy(done.stderr.split())


# --- empty words


@pytest.mark.parametrize(
    "words",
    [
        ("score", ""),
        ("score", TABLE, "--model", ""),
        ("score", TABLE, "--fix", ""),
        ("score", TABLE, "--fix", "20261123t120000z-score-x", "--model", ""),
        ("train", ""),
        ("train", "v1", "--train", ""),
        ("train", "v1", "--eval", ""),
    ],
)
def test_an_empty_word_is_refused_and_does_not_stand_for_the_default(place, monkeypatch, words):
    monkeypatch.chdir(place.bucket / "data/predict/input/2026/11/23")
    write_table(LocalBucket(place.bucket), [row(0)], "data/train/2026/11/23/train.csv")
    ended = CliRunner().invoke(root.scoring, [*words, "--no-wait"], env=place.environment)
    assert isinstance(ended.exception, RequestError)
    assert ended.exception.exit_code == 2
    assert ended.exception.next_step
    assert not (place.bucket / "jobs").exists()


# --- the same request once more


@pytest.mark.server
def test_a_training_that_was_done_before_says_that_its_alias_was_moved_meanwhile(place, redis_url):
    bucket = LocalBucket(place.bucket)
    command = ["train", "v1", "--train", TABLE, "--alias", "champion", "--no-wait"]
    environment = place.environment | {"REDIS_URL": redis_url}
    job_id = CliRunner().invoke(root.scoring, command, env=environment).stdout.strip()
    trained, other = resolve(bucket, "v1"), "v1@20261124T120000Z-abcdef"
    JobFolder(bucket, job_id).write_outcome(Outcome(state="done", at=NOON, release=trained))
    point_alias(bucket, "champion", trained)
    again = CliRunner().invoke(root.scoring, command, env=environment)
    assert again.stdout.strip() == job_id
    assert again.stderr.endswith("add --again.\n")
    point_alias(bucket, "champion", other)
    again = CliRunner().invoke(root.scoring, command, env=environment)
    assert again.stdout.strip() == job_id
    assert again.exception.exit_code == 2
    assert again.exception.next_step.splitlines() == [
        f"Run it once more: scoring {' '.join(command)} --again",
        f"Move it with: scoring models promote {trained}",
    ]


@pytest.mark.server
def test_a_forced_training_is_another_request_than_the_one_that_was_refused(place, redis_url):
    bucket = LocalBucket(place.bucket)
    environment = place.environment | {"REDIS_URL": redis_url}
    plain, forced = (
        CliRunner().invoke(root.scoring, ["train", "v1", "--train", TABLE, *more, "--no-wait"], env=environment).stdout.strip()
        for more in ([], ["--force"])
    )
    assert [JobFolder(bucket, job_id).job().force for job_id in (plain, forced)] == [False, True]


@pytest.mark.server
def test_a_training_that_may_leave_out_more_is_another_request_and_says_so(place, redis_url):
    bucket = LocalBucket(place.bucket)
    environment = place.environment | {"REDIS_URL": redis_url}
    plain, lenient = (
        CliRunner().invoke(root.scoring, ["train", "v1", "--train", TABLE, *more, "--no-wait"], env=environment).stdout.strip()
        for more in ([], ["--max-left-out", "0.05"])
    )
    assert [JobFolder(bucket, job_id).job().max_left_out for job_id in (plain, lenient)] == [0.01, 0.05]
    assert b"max_left_out" not in (bucket.read(f"jobs/{plain}/job.json") or b""), "workers of an earlier version know no such field"


# --- damaged aliases


def test_models_list_names_a_damaged_alias_and_lists_all_releases(place):
    bucket = LocalBucket(place.bucket)
    bucket.write("model/aliases/challenger.json", b"")
    done = CliRunner().invoke(root.scoring, ["models", "list", "--quiet"], env=place.environment, catch_exceptions=False)
    assert done.stdout.strip() == resolve(bucket, "v1")
    assert done.stderr.startswith("Left out: the alias challenger cannot be read: model/aliases/challenger.json: ")
    assert "scoring models promote RELEASE --alias challenger" in done.stderr


# --- cancel


def test_a_job_that_was_cancelled_already_is_said_to_be(place):
    job_id = make_job(LocalBucket(place.bucket)).job_id
    said = [CliRunner().invoke(root.scoring, ["jobs", "cancel", job_id], env=place.environment).output for _ in range(2)]
    more = f"Let it go on with: scoring jobs resume {job_id}\n"
    assert said == [f"Cancelled {job_id}. {more}", f"Job {job_id} was cancelled already. {more}"]


# --- exit codes


def errors(error: type[ScoringError] = ScoringError) -> Iterator[type[ScoringError]]:
    yield error
    for inner in error.__subclasses__():
        if inner.__module__ == "shared.errors":
            yield from errors(inner)


def documented(text: str) -> dict[int, str]:
    """Exit code -> what it means, from a sentence like ``Exit codes: 0 done, 2 a request, ...``."""
    sentence = " ".join(text.partition("Exit codes:")[2].partition(".")[0].split())
    return {int(code): meaning for code, meaning in re.findall(r"(\d+) ([^,\d][^,]*)", sentence)}


def test_the_exit_codes_in_the_help_are_those_of_the_errors(helped):
    shown_codes = documented(helped["shown"][""])
    raised = {error.exit_code for error in errors() if error not in (ScoringError, PermanentError)}
    assert set(shown_codes) == raised | {0, 130}
    for code, word in {2: "request", 3: "table", 4: "model", 5: "failed or was cancelled", 6: "Redis or the bucket", 130: "Ctrl-C"}.items():
        assert word in shown_codes[code]
    assert set(documented(root.__doc__)) == set(shown_codes) | {ScoringError.exit_code}


def test_the_tree_of_errors_says_the_exit_codes_they_have():
    for name, code in re.findall(r"(\w+Error) .*exit code (\d)", shared.errors.__doc__):
        assert getattr(shared.errors, name).exit_code == int(code), name
    for error in errors():
        assert error.__name__ in shared.errors.__doc__, f"{error.__name__} is missing from the tree"
        assert error.__doc__


def test_every_kind_of_error_belongs_to_one_side_of_the_tree():
    for error in errors():
        assert error is ScoringError or issubclass(error, PermanentError) != issubclass(error, TransientError)


@pytest.mark.parametrize("error", [error for error in errors() if error.exit_code > 1])
def test_an_error_ends_the_command_with_its_code_one_sentence_and_the_next_step(monkeypatch, capsys, error):
    def fail(**_):
        raise error("the thing is not there", next_step="Look elsewhere.")

    monkeypatch.setattr(root.scoring, "main", fail)
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == error.exit_code
    assert capsys.readouterr().err == "Error: the thing is not there.\nLook elsewhere.\n"


@pytest.mark.parametrize(("raised", "code"), [(KeyboardInterrupt, 130), (click.Abort, 130), (click.UsageError("no such option"), 2)])
def test_what_click_raises_has_its_code(monkeypatch, raised, code):
    def fail(**_):
        raise raised

    monkeypatch.setattr(root.scoring, "main", fail)
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == code
