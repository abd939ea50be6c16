"""The whole job with its bucket on an object store: the same text as in a local folder, byte for byte."""

import contextlib
import gzip
import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from shared.bucket.local import LocalBucket
from shared.bucket.opening import open_bucket
from tests.conftest import make_place, stop
from tests.google_store import GOOGLE_BUCKET, google_access, google_store, talking_to_google
from tests.handmade import make_job, run_job, text_at
from tests.object_store import STORE_BUCKET, access, object_store, talking_to
from tests.trainings import make_training, train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SAMPLE = ["sample", "--rows", "5000", "--train-rows", "3000"]


@pytest.fixture(scope="module")
def text_in_a_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What the steps of the job come to in a local folder, without a queue."""
    place = make_place(tmp_path_factory.mktemp("folder"))
    with contextlib.closing(place.webhook):
        made = place.scoring_json(*SAMPLE)
    bucket = LocalBucket(place.bucket)
    tables = {name: next(path for path in made if name in path) for name in ("train.csv", "eval.csv", "prediction_input")}
    trained = train(make_training(bucket, train=tables["train.csv"], eval=tables["eval.csv"]))
    outcome = run_job(make_job(bucket, minute=5, table=tables["prediction_input"], model=trained.release or ""))
    return text_at(bucket, outcome.result or "")


@contextlib.contextmanager
def on_s3() -> Iterator[tuple[str, dict[str, str], AbstractContextManager[object]]]:
    with object_store() as url:
        yield f"s3://{STORE_BUCKET}/keywords", access(url), talking_to(url)


@contextlib.contextmanager
def on_google() -> Iterator[tuple[str, dict[str, str], AbstractContextManager[object]]]:
    with google_store() as url:
        yield f"gs://{GOOGLE_BUCKET}/keywords", google_access(url), talking_to_google(url)


@pytest.mark.parametrize("store", [on_s3, on_google])
def test_a_job_on_an_object_store_comes_to_the_text_of_a_local_folder(
    store: Callable[[], AbstractContextManager[tuple[str, dict[str, str], AbstractContextManager[object]]]],
    text_in_a_folder: str,
    tmp_path: Path,
) -> None:
    with store() as (url, environment, talking):
        # a sweep every second would compete with the job for this slow store
        place = make_place(tmp_path, BUCKET_URL=url, SCORING_SWEEP_SECONDS="5", **environment)
        running = place.start()
        try:
            made = place.scoring_json(*SAMPLE)
            place.scoring("train", "v1")
            table = next(path for path in made if "prediction_input" in path)
            outcome = place.scoring_json("score", table, "--model", "v1", "--chunk-rows", "700")
            with talking:
                bucket = open_bucket(url)
                read = gzip.decompress(bucket.read(f"{outcome['result']}/prediction_output.csv.gz") or b"")
                manifest = json.loads(bucket.read(f"{outcome['result']}/manifest.json") or b"")
        finally:
            assert stop(running) == 0
            place.webhook.close()
    assert not place.bucket.exists(), "nothing of it lies in a folder of this machine"
    assert manifest["chunks"] == 8
    assert read.decode() == text_in_a_folder
    assert manifest["text_sha256"] == hashlib.sha256(text_in_a_folder.encode()).hexdigest()
    assert len(place.webhook.sent_about(outcome["job_id"])) == 1
