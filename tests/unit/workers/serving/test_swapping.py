"""A promoted release and a new result are taken over as a whole; what cannot be opened leaves everything as it is, and people are told."""

import threading
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from model_store.foreign_code import DefinitionError
from shared.catalog.aliases import point_alias
from shared.catalog.paths import release_folder
from shared.jobs.outbox import undelivered
from tests.conftest import wait_until
from tests.guarded import lines_with_clicks, make_guarded_bucket, score_on_channel
from tests.handmade import NOON, WEIGHTS, publish_handmade
from tests.serving import ask, make_service
from workers.serving.rates import computing
from workers.serving.releases import opening, reproducing, swapping

ALIAS = "tested"
KEY = {"entity_id": 1001, "device": 1}
CELLS = KEY | {"att1": 1, "att2": 0, "att3": 0, "length": 0.25}


@pytest.fixture
def bucket(tmp_path):
    made, _ = make_guarded_bucket(tmp_path / "bucket")
    return made


@pytest.fixture
def service(bucket, tmp_path):
    point_alias(bucket, ALIAS, publish_handmade(bucket))
    made = make_service(bucket, tmp_path / "home", serve_model=ALIAS)
    made.swapper.look()
    assert made.is_ready
    return made


def promote_another(bucket, minutes=1, weights=None):
    """Promotes a release with other weights, and returns it."""
    release = publish_handmade(bucket, made=NOON + timedelta(minutes=minutes), weights=weights or [weight / 2 for weight in WEIGHTS])
    point_alias(bucket, ALIAS, release)
    return release


def computed(service):
    answer = ask(service, "POST", "/v1/rates?source=computed", json={"rows": [CELLS]})
    assert answer.status_code == 200, answer.text
    assert answer.json()["release"] == answer.headers["x-scoring-release"]
    return answer.json()["release"], answer.json()["rates"][0]["cr"]


def failures(service, kind):
    return service.metrics.registry.get_sample_value("scoring_serve_swap_failures_total", {"kind": kind}) or 0


def test_a_promoted_release_computes_from_the_next_look_on(service, bucket):
    before = computed(service)
    release = promote_another(bucket)
    assert computed(service) == before
    service.swapper.look()
    assert computed(service)[0] == release
    assert computed(service)[1] != before[1]
    assert service.metrics.registry.get_sample_value("scoring_serve_swaps_total", {"kind": "release"}) == 2


def test_a_new_result_is_answered_from_the_next_look_on(service, bucket):
    before = ask(service, "GET", "/v1/rates/1001/1")
    folder, outcome = score_on_channel(bucket, lines_with_clicks()[:-1], 1, guard_off="a shop less")
    assert outcome.state == "done"
    service.swapper.look()
    after = ask(service, "GET", "/v1/rates/1001/1", headers={"If-None-Match": before.headers["etag"]})
    assert after.status_code == 200
    assert folder.job_id in after.headers["etag"]
    assert after.headers["x-scoring-revision"] != before.headers["x-scoring-revision"]


def test_a_damaged_release_is_not_taken_over_it_is_counted_and_people_are_told_once(service, bucket):
    before = computed(service)
    release = promote_another(bucket)
    path = f"{release_folder(release)}/model.skops"
    bucket.place(path).write_bytes((bucket.read(path) or b"") + b"x")
    for _ in range(3):
        service.swapper.look()
    assert computed(service) == before
    assert service.is_ready
    assert failures(service, "release") == 1  # it rests before it is tried again
    service.swapper._not_before.clear()
    service.swapper.look()
    assert failures(service, "release") == 2
    notices = [folder.notice() for folder in undelivered(bucket) if folder.name.startswith("serve-")]
    assert [(notice.good, notice.title) for notice in notices] == [(False, f"HTTP: the release {release} is not served")]
    assert ask(service, "GET", "/v2/health/ready").json()["problems"].keys() == {"release"}
    # a good one ends the trouble
    good = promote_another(bucket, minutes=2)
    service.swapper.look()
    assert computed(service)[0] == good
    assert ask(service, "GET", "/v2/health/ready").json()["problems"] == {}


def test_a_release_that_gives_other_digits_here_than_in_its_result_is_not_taken_over(bucket, tmp_path, monkeypatch):
    lone = make_service(bucket, tmp_path / "home", serve_model="v1")
    real = reproducing.predict_valid

    def another(*arguments, **more):
        found = real(*arguments, **more)
        return replace(found, cr=found.cr + 2.0**-53)

    monkeypatch.setattr(reproducing, "predict_valid", another)
    lone.swapper.look()
    assert lone.serving.loaded is None
    assert "gives other rates here" in lone.swapper.problems["release"]
    assert lone.serving.published is not None


def test_rows_of_the_last_result_are_compared_byte_for_byte(service, bucket):
    change = swapping.read_channel(bucket, "live")
    assert reproducing.reproduce(bucket, service.serving.loaded.release, change) == reproducing.ROWS
    # also if the channel shows the result of another release
    assert reproducing.reproduce(bucket, service.serving.loaded.release, None) == reproducing.ROWS


def test_a_release_whose_table_is_gone_is_taken_over_without_a_comparison(service, bucket):
    change = swapping.read_channel(bucket, "live")
    for info in bucket.files("data/predict/input/2026/11/10"):
        bucket.delete(info.path)
    assert reproducing.reproduce(bucket, service.serving.loaded.release, change) == 0
    assert opening.open_release(bucket, service.swapper.watched.library, service.serving.release, change).name == service.serving.release


def patch_three_rows(monkeypatch, service, answer):
    """Lets the definition answer in another way for the rows 3, 40 and 77, which have this length."""
    model_class = type(service.serving.loaded.release.model)
    real = model_class.predict

    def predict(self, X):
        where = X["length"] == 0.75
        return np.where(where, answer(), real(self, X)) if where.any() else real(self, X)

    monkeypatch.setattr(model_class, "predict", predict)


def fail():
    raise ValueError("not this row")


def test_rows_that_the_result_rejects_are_not_scored_again(service, bucket, monkeypatch):
    """One of them may kill the process that scores it."""
    with monkeypatch.context() as patched:
        patch_three_rows(patched, service, lambda: np.nan)
        _, outcome = score_on_channel(bucket, lines_with_clicks(), 1, guard_off="some have no rate", max_reject_share=0.5)
    assert outcome.state == "done"
    patch_three_rows(monkeypatch, service, fail)
    assert reproducing.reproduce(bucket, service.serving.loaded.release, swapping.read_channel(bucket, "live")) == reproducing.ROWS - 3


def test_a_release_that_fails_here_on_a_row_of_its_result_is_not_taken_over(service, bucket, monkeypatch):
    patch_three_rows(monkeypatch, service, fail)
    with pytest.raises(reproducing.OtherDigitsError, match=r"fails here on a row that has a rate in the result of job .*not this row"):
        reproducing.reproduce(bucket, service.serving.loaded.release, swapping.read_channel(bucket, "live"))


def test_a_server_whose_first_result_is_damaged_says_so_and_is_ready_once_a_later_whole_one_is_there(bucket, tmp_path):
    change = swapping.read_channel(bucket, "live")
    for name in ("prediction_index.arrow", "prediction_output.csv.gz"):
        bucket.write(f"{change.revision}/{name}", b"not what it was")
    lone = make_service(bucket, tmp_path / "home", serve_model="v1")
    assert ask(lone, "GET", "/v2/health/ready").json()["reason"] == "the alias and the channel are not read yet"
    lone.swapper.look()
    answer = ask(lone, "GET", "/v2/health/ready")
    why = f"the result of job {change.job_id}, which the channel live shows, cannot be opened; a later one is opened by itself"
    assert (answer.status_code, answer.json()["reason"]) == (503, why)
    folder, outcome = score_on_channel(bucket, lines_with_clicks(), 1, guard_off="the one before is damaged")
    assert outcome.state == "done"
    lone.swapper.look()
    answer = ask(lone, "GET", "/v2/health/ready")
    assert (answer.status_code, answer.json()["job_id"], "reason" in answer.json()) == (200, folder.job_id, False)
    assert ask(lone, "GET", "/v1/rates/1001/1").status_code == 200


def test_a_damaged_result_is_not_taken_over(service, bucket):
    before = ask(service, "GET", "/v1/rates/1001/1").json()["cr"]
    folder, outcome = score_on_channel(bucket, lines_with_clicks()[:-1], 1, guard_off="a shop less")
    revision = f"{outcome.result}/revisions/{folder.job_id}"
    for name in ("prediction_index.arrow", "prediction_output.csv.gz"):
        bucket.write(f"{revision}/{name}", b"not what it was")
    service.swapper.look()
    assert ask(service, "GET", "/v1/rates/1001/1").json()["cr"] == before
    assert failures(service, "result") == 1


def test_without_the_bucket_the_server_goes_on_with_what_it_has_and_says_how_old_it_is(service, bucket):
    root = bucket.place("jobs").parent
    root.rename(root.with_name("away"))
    service.swapper.look()
    service.swapper.look()
    found = ask(service, "POST", "/v1/rates", json={"rows": [KEY, CELLS | {"entity_id": 999999}]}).json()["rates"]
    assert [rate["status"] for rate in found] == ["PRESENT", "PRESENT"]
    assert found[0]["age_seconds"] >= 0
    assert service.is_ready
    root.with_name("away").rename(root)
    service.swapper.look()
    assert service.swapper.problems == {}


def test_an_answer_never_mixes_two_states_while_they_are_exchanged(service, bucket):
    """20 exchanges, half of them to a broken release, under requests without a pause."""
    state: dict[str, set[float]] = {}
    wrong: list[str] = []
    answered: list[str] = []
    is_over = threading.Event()

    def ask_on():
        while not is_over.is_set():
            try:
                release, rate = computed(service)
                answered.append(release)
                state.setdefault(release, set()).add(rate)
            except (AssertionError, LookupError, ValueError) as error:
                wrong.append(repr(error))

    asking = threading.Thread(target=ask_on)
    asking.start()
    for number in range(1, 21):
        release = promote_another(bucket, minutes=number, weights=[weight / (number + 1) for weight in WEIGHTS])
        if number % 2:
            bucket.write(f"{release_folder(release)}/model.skops", b"broken")
        seen = len(answered)
        service.swapper.look()
        # each exchange is met by requests
        wait_until(lambda seen=seen: len(answered) >= seen + 2 or wrong, 30, "two answers")
    is_over.set()
    asking.join()
    assert wrong == []
    assert len(answered) >= 40
    assert all(len(rates) == 1 for rates in state.values())
    assert failures(service, "release") == 10
    assert service.serving.release == release


def test_before_the_first_look_has_ended_rates_are_refused_for_now_and_not_said_to_be_absent(bucket, tmp_path, monkeypatch):
    lone = make_service(bucket, tmp_path / "home", serve_model="v1")
    statuses = []

    def look_in(*arguments):
        statuses.append([ask(lone, "GET", path).status_code for path in ("/v1/rates/1001/1", "/v2/models/v1", "/ping")])
        return opening.open_release(*arguments)

    monkeypatch.setattr(swapping, "open_release", look_in)
    statuses.append([ask(lone, "GET", path).status_code for path in ("/v1/rates/1001/1", "/v2/models/v1", "/ping")])
    lone.swapper.look()
    assert statuses == [[503, 503, 503]] * 2
    assert [ask(lone, "GET", path).status_code for path in ("/v1/rates/1001/1", "/v2/models/v1", "/ping")] == [200] * 3


@pytest.mark.parametrize("error", [OSError("away"), ZeroDivisionError("a defect")])
@pytest.mark.parametrize("step", ["read_channel", "open_published"])
def test_while_the_result_of_the_channel_is_not_open_its_rates_are_refused_for_now(bucket, tmp_path, monkeypatch, step, error):
    lone = make_service(bucket, tmp_path / "home", serve_model="v1")
    real = getattr(swapping, step)

    def fail(*_):
        raise error

    monkeypatch.setattr(swapping, step, fail)
    lone.swapper.look()
    asked = ask(lone, "POST", "/v1/rates", json={"rows": [KEY]}), ask(lone, "GET", "/v1/rates/1001/1"), ask(lone, "GET", "/ping")
    assert [answer.status_code for answer in asked] == [503] * 3
    assert asked[0].headers["retry-after"] == "1"
    assert computed(lone)[0] == lone.serving.release
    monkeypatch.setattr(swapping, step, real)
    lone.swapper._not_before.clear()
    lone.swapper.look()
    assert ask(lone, "GET", "/v1/rates/1001/1").status_code == 200
    assert lone.is_ready


def test_a_defect_while_the_alias_is_followed_is_counted_and_does_not_keep_a_new_result_away(service, bucket, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(swapping, "resolve", fail)
    folder, _ = score_on_channel(bucket, lines_with_clicks()[:-1], 1, guard_off="a shop less")
    service.swapper.look()
    assert service.serving.published.manifest.job_id == folder.job_id
    assert failures(service, "release") == 1
    assert service.is_ready


def test_a_release_that_cannot_predict_is_not_taken_over(service, bucket, monkeypatch):
    before = computed(service)
    release = promote_another(bucket)

    def fail(*_, **__):
        raise DefinitionError("it fails")

    with monkeypatch.context() as patched:
        patched.setattr(computing, "predict_valid", fail)
        service.swapper.look()
    assert computed(service) == before
    assert failures(service, "release") == 1
    notices = [folder.notice() for folder in undelivered(bucket) if folder.name.startswith("serve-")]
    assert [notice.title for notice in notices] == [f"HTTP: the release {release} is not served"]
