"""A log line says which job and which chunk it is about, in a form for people or one for programs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Place, wait_until

LOGS = """
import logging
import structlog
from shared.logs import set_up_logs
from shared.settings import read_settings
set_up_logs(read_settings())
log = structlog.get_logger()
with structlog.contextvars.bound_contextvars(job="20261123t120000z-score-aaaaaa", chunk=7):
    log.info("chunk scored", rows=50)
    logging.getLogger("a.library").warning("something of %s", "a library")
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("unexpected error")
    log.debug("too fine")
log.info("between jobs\\nwith a second line")
logging.getLogger("celery.app.trace").info("a line for every message")
logging.getLogger("celery.app.trace").warning("a line that matters")
"""


def lines(form: str, level: str = "INFO") -> list[str]:
    """What a process logs in this form."""
    environment = {**os.environ, "SCORING_LOG": form, "SCORING_LOG_LEVEL": level}
    done = subprocess.run(
        [sys.executable, "-c", LOGS], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


# --- for programs


def test_every_line_for_programs_is_an_object_with_its_time_and_level() -> None:
    for line in lines("json"):
        event = json.loads(line)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["timestamp"])
        assert event["level"] in ("info", "warning", "error")


def test_lines_for_programs_carry_the_job_and_the_chunk_they_belong_to() -> None:
    events = [json.loads(line) for line in lines("json")]
    within = [event for event in events if "job" in event]
    assert [event["event"] for event in within] == ["chunk scored", "something of a library", "unexpected error"]
    assert all((event["job"], event["chunk"]) == ("20261123t120000z-score-aaaaaa", 7) for event in within)
    assert within[0]["rows"] == 50
    assert "between jobs\nwith a second line" in [event["event"] for event in events if "job" not in event]


def test_a_traceback_for_programs_is_part_of_its_line() -> None:
    [event] = [event for line in lines("json") if "exception" in (event := json.loads(line))]
    assert event["event"] == "unexpected error"
    assert "ZeroDivisionError: division by zero" in event["exception"]


# --- for people


def test_lines_for_people_carry_the_job_and_the_chunk_too() -> None:
    text = lines("text")
    [scored] = [line for line in text if "chunk scored" in line]
    assert {"job=20261123t120000z-score-aaaaaa", "chunk=7", "rows=50"} <= set(scored.split())
    assert "ZeroDivisionError: division by zero" in text
    assert "\x1b" not in "".join(text)


# --- for both


@pytest.mark.parametrize("form", ["json", "text"])
def test_the_level_and_the_chatter_of_celery_are_held_down(form: str) -> None:
    text = "\n".join(lines(form))
    assert "too fine" not in text
    assert "a line for every message" not in text
    assert "a line that matters" in text
    assert "too fine" in "\n".join(lines(form, "DEBUG"))
    assert "chunk scored" not in "\n".join(lines(form, "WARNING"))


# --- the real stack


def small_job(place: Place, folder: Path) -> str:
    """Scores 10 rows in chunks of 4; returns the job once all is done."""
    table = folder / "logged.csv"
    source = place.sample_table.relative_to(place.bucket)
    import pandas as pd

    pd.read_csv(place.bucket / source).head(10).to_csv(table, index=False)
    job_id = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", "4", "--again")["job_id"]
    wait_until((place.bucket / "jobs" / job_id / "notified.json").exists, what="the notice")
    return job_id


def test_the_workers_say_of_every_chunk_which_it_was(trained: Place, tmp_path: Path) -> None:
    job_id = small_job(trained, tmp_path)
    count = len(json.loads((trained.bucket / "jobs" / job_id / "plan.json").read_text())["chunks"])
    assert count > 1

    def of_job(event: str) -> list[set[str]]:
        return [set(line.split()) for line in trained.log.read_text().splitlines() if event in line and f"job={job_id}" in line.split()]

    scored = wait_until(lambda: len(found := of_job("chunk scored")) == count and found, what="a line for each chunk")
    assert sorted(word for words in scored for word in words if word.startswith("chunk=")) == [f"chunk={index}" for index in range(count)]
    for event in ("planned", "finished"):
        [words] = wait_until(lambda event=event: of_job(event), what=f"the line {event}")
        assert not [word for word in words if word.startswith("chunk=")]
