"""Two stacks, each with its own Redis, on one bucket: each does its own jobs, leaves those of the other alone, and says so."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.conftest import READY_CLI, Place, free_port, make_place, stop, wait_until

pytestmark = pytest.mark.server


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, trained: Place) -> Iterator[Place]:
    """A second stack on the bucket of the shared one."""
    wait_until((trained.bucket / "cluster.json").exists, what="the first stack to claim its bucket")
    place = make_place(tmp_path_factory.mktemp("second"), SCORING_PROCESSES="1", BUCKET_URL=str(trained.bucket))
    running = place.start()
    yield place
    assert stop(running) == 0
    place.webhook.close()


def name_of(place: Place) -> str:
    client = redis.Redis(port=int(place.environment["SCORING_REDIS_PORT"]))
    return wait_until(lambda: client.get("scoring:cluster"), what="the name of the stack").decode()


def put_without_a_message(place: Place, table: Path, chunk_rows: int, **more: str) -> str:
    """A job of which no message was sent, so that only a sweep finds it."""
    environment = place.environment | {"REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"} | more
    away = Place(root=place.root, environment=environment, webhook=place.webhook)
    return away.scoring("score", table, "--model", "v1", "--chunk-rows", str(chunk_rows), "--again", "--no-wait", code=6).stdout.strip()


def has_sent(place: Place, job_id: str) -> bool:
    return re.search(rf"sweep sends again.*{job_id}", place.log.read_text()) is not None


def test_a_second_stack_leaves_the_jobs_of_the_first_alone_does_its_own_and_both_say_so(trained: Place, second: Place) -> None:
    first_name, second_name = name_of(trained), name_of(second)
    assert first_name != second_name
    of_first = put_without_a_message(trained, trained.sample_table, 4000)
    of_second = put_without_a_message(second, trained.sample_table, 5000, SCORING_CLUSTER=second_name)
    for place, job_id in ((trained, of_first), (second, of_second)):
        assert place.scoring_json("jobs", "show", job_id, "--follow")["state"] == "done"
    assert (has_sent(trained, of_first), has_sent(trained, of_second)) == (True, False)
    assert (has_sent(second, of_first), has_sent(second, of_second)) == (False, True)
    assert trained.webhook.sent_about(of_first)
    assert not trained.webhook.about(of_second)
    assert f"warning: the bucket belongs to another stack, {first_name}, seen" in second.log.read_text()
    assert "warning: the bucket belongs to another stack" not in trained.log.read_text()


def _stack_finding(place: Place) -> dict[str, str]:
    # what else is wrong there, like a definition of another test that the second stack does not have, is not the question
    said = READY_CLI.run(["doctor", "--json"], place.environment, 120).stdout
    return next(one for one in json.loads(said) if one["subject"] == "cluster")


def test_the_doctor_of_the_second_stack_warns_and_that_of_the_first_does_not(trained: Place, second: Place) -> None:
    of_first, of_second = (_stack_finding(place) for place in (trained, second))
    assert of_first["state"] == "well"
    assert of_second["state"] == "warning"
    assert f"the bucket belongs to another stack, {name_of(trained)}" in of_second["text"]
    assert "SCORING_CLUSTER" in of_second["next_step"]
