"""What comes off the queue is either exactly what it says it is, or refused in one sentence."""

import json
import math
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import MessageError, PermanentError
from shared.jobs.messages import CandidateMessage, ChunkMessage, Notice, ScoreJob, StepMessage, TrainJob, decode_job
from shared.records import MAX_MESSAGE_BYTES, Record, check_bucket_path, decode, decode_long, is_release_id

GOLDEN = Path(__file__).parents[3] / "golden" / "messages"
MOMENT = datetime(2026, 11, 23, 10, 15, tzinfo=UTC)
ORDER = {"job_id": "20261123t101500z-4f1d"}
CHUNK = {**ORDER, "index": 3, "of": 12}
SCORE = {
    **ORDER,
    "kind": "score",
    "created": "2026-11-23T10:15:00Z",
    "model": "champion",
    "table": "data/predict/input/2026/11/23/prediction_input.csv.gz",
    "place": "2026/11/23",
}
TRAIN = {**ORDER, "kind": "train", "created": "2026-11-23T10:15:00Z", "definition": "v1", "train": "data/train/2026/11/23/train.csv.gz"}

GOLDEN_RECORDS: dict[str, Record] = {
    "job_order.json": StepMessage(job_id="20261123t101500z-4f1d"),
    "chunk_order.json": ChunkMessage(job_id="20261123t101500z-4f1d", index=7, of=16),
    "chunk_order_before_the_plan.json": ChunkMessage(job_id="20261123t101500z-4f1d", index=7, of=0, cut=(0, 16777216, 33554432, 50126)),
    "score_job.json": ScoreJob(
        job_id="20261123t101500z-4f1d",
        created=MOMENT,
        model="v1@20261123T101500Z-9bfad3",
        table="data/predict/input/2026/11/23/prediction_input.csv.gz",
        place="2026/11/23",
        chunk_rows=500,
        max_reject_share=0.05,
    ),
    "score_job_with_defaults.json": ScoreJob(
        job_id="20261123t101500z-4f1d", created=MOMENT, model="champion", table="data/predict/input/2026/11/23", place="2026/11/23"
    ),
    "score_job_that_fixes.json": ScoreJob(
        job_id="20261123t101500z-4f1d",
        created=MOMENT,
        model="champion",
        table="data/predict/input/2026/11/23",
        place="2026/11/23",
        max_rejects=250,
        fixes="20261123t100000z-77aa",
        fixed_rows="jobs/20261123t101500z-4f1d/input/mended.csv",
    ),
    "score_job_with_interval.json": ScoreJob(
        job_id="20261123t101500z-4f1d",
        created=MOMENT,
        model="champion",
        table="data/predict/input/2026/11/23",
        place="2026/11/23",
        interval=True,
    ),
    "train_job.json": TrainJob(
        job_id="20261123t101500z-77aa",
        created=MOMENT,
        definition="v2",
        train="data/train/2026/11/23/train.csv.gz",
        eval="data/train/2026/11/23/eval.csv.gz",
        alias="challenger",
    ),
    "train_job_that_promotes.json": TrainJob(
        job_id="20261123t101500z-77ab",
        created=MOMENT,
        definition="v2",
        train="data/train/2026/11/23/train.csv.gz",
        eval="data/train/2026/11/23/eval.csv.gz",
        promote="auto",
    ),
    "train_job_that_is_forced.json": TrainJob(
        job_id="20261123t101500z-77ac",
        created=MOMENT,
        definition="v2",
        train="data/train/2026/11/23/train.csv.gz",
        force=True,
    ),
    "train_job_with_a_search.json": TrainJob(
        job_id="20261123t101500z-77aa",
        created=MOMENT,
        definition="v2",
        train="data/train/2026/11/23/train.csv.gz",
        config="jobs/20261123t101500z-77aa/params.yaml",
    ),
    "candidate_order.json": CandidateMessage(job_id="20261123t101500z-77aa", candidate=7, fold=2),
    "notice.json": Notice(
        job_id="20261123t101500z-4f1d",
        good=True,
        title="scored 19,430 rows with v2",
        facts={"rows in": "19,430"},
        next_step="scoring results head 20261123t101500z-4f1d",
    ),
}

job_ids = st.from_regex(r"[a-z0-9][a-z0-9.-]{2,99}", fullmatch=True)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,63}", fullmatch=True)
parts = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"), min_size=1, max_size=20
).filter(lambda part: part not in (".", "..") and "://" not in part)  # fmt: skip
paths = st.lists(parts, min_size=1, max_size=5).map("/".join).filter(lambda path: "://" not in path)
moments = st.datetimes(timezones=st.just(UTC))
messages = st.one_of(
    st.builds(StepMessage, job_id=job_ids),
    st.builds(ChunkMessage, job_id=job_ids, index=st.integers(0, 9_999_999), of=st.integers(1, 10_000_000)),
    st.builds(CandidateMessage, job_id=job_ids, candidate=st.integers(1, 1_000_000), fold=st.integers(1, 1000)),
    st.builds(
        ScoreJob,
        job_id=job_ids,
        created=moments,
        model=names,
        table=paths,
        place=paths,
        chunk_rows=st.none() | st.integers(1, 1_000_000_000),
        max_reject_share=st.floats(0, 1),
    ),
    st.builds(
        TrainJob,
        job_id=job_ids,
        created=moments,
        definition=names,
        train=paths,
        eval=st.none() | paths,
        alias=st.none() | names,
        config=st.none() | paths,
    ),
    st.builds(
        TrainJob, job_id=job_ids, created=moments, definition=names, train=paths, promote=st.sampled_from(["never", "auto", "always"])
    ),
    st.builds(
        Notice,
        job_id=job_ids,
        good=st.booleans(),
        title=st.text(max_size=50),
        facts=st.dictionaries(st.text(max_size=9), st.text(max_size=9)),
    ),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def refused(kind: type[Record], data: object) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(MessageError) as caught:
        decode(kind, data)
    sentence = caught.value.message
    assert sentence.startswith(f"a {kind.__name__}")
    assert "\n" not in sentence
    assert len(sentence) < 500
    assert isinstance(caught.value, PermanentError), "trying again gives the same message"
    return sentence


@given(messages)
@settings(max_examples=150, deadline=None)
def test_what_is_encoded_decodes_to_the_same_message(message):
    kind = type(message)
    assert kind.decode(message.encode()) == message
    assert kind.decode(json.loads(json.dumps(message.encode()))) == message
    assert kind.decode(message.to_json()) == message
    assert decode_long(kind, message.to_json()) == message


@given(messages.filter(lambda message: isinstance(message, ScoreJob | TrainJob)))
@settings(max_examples=50, deadline=None)
def test_a_job_file_says_itself_which_kind_of_job_it_is(job):
    assert decode_job(job.to_json()) == job


@pytest.mark.parametrize("name", GOLDEN_RECORDS)
def test_a_message_of_format_1_still_decodes_to_what_it_meant(name):
    expected = GOLDEN_RECORDS[name]
    assert decode(type(expected), (GOLDEN / name).read_bytes()) == expected


def test_every_golden_file_is_tested():
    assert sorted(file.name for file in GOLDEN.iterdir()) == sorted(GOLDEN_RECORDS)


def test_every_message_carries_the_format_number():
    assert all(record.encode()["format"] == 1 for record in GOLDEN_RECORDS.values())


@pytest.mark.parametrize("number", [2, 0, -1, "1", 1.5, None, [], {}])
def test_an_unknown_format_is_refused_by_its_number(number):
    sentence = refused(StepMessage, {**ORDER, "format": number})
    assert "format" in sentence
    assert repr(number) in sentence
    assert "upgrade" in sentence


@pytest.mark.parametrize(
    "data", [None, 1, 1.5, True, "text", [], [ORDER], "null", math.nan, {1, 2}, object(), b"", b"{", b"\xff\xfe", b"null"]
)
def test_what_is_no_json_object_is_refused(data):
    refused(StepMessage, data)


@pytest.mark.parametrize("field", ["job_id", "index", "of"])
def test_a_lacking_field_is_named(field):
    assert field in refused(ChunkMessage, {key: value for key, value in CHUNK.items() if key != field})


@pytest.mark.parametrize("record", [(ChunkMessage, CHUNK), (ScoreJob, SCORE), (TrainJob, TRAIN)], ids=lambda record: record[0].__name__)
def test_an_extra_field_is_refused_by_its_name(record):
    kind, data = record
    assert "surprise" in refused(kind, {**data, "surprise": "__import__('os')"})


@pytest.mark.parametrize("value", ["3", 3.0, 3.5, True, None, [], -1, 10_000_000, 2**63, math.nan, math.inf])
def test_a_chunk_number_that_is_none_is_refused(value):
    assert "index" in refused(ChunkMessage, {**CHUNK, "index": value})


@pytest.mark.parametrize("field", ["candidate", "fold"])
@pytest.mark.parametrize("value", ["3", 3.0, True, None, [], 0, -1, 1_000_001, math.inf])
def test_a_candidate_or_fold_that_is_none_is_refused(field, value):
    assert field in refused(CandidateMessage, {**ORDER, "candidate": 1, "fold": 1, field: value})


def test_a_train_job_without_a_search_is_written_as_workers_of_an_earlier_version_know_it():
    job = TrainJob(**{**TRAIN, "created": MOMENT})
    assert "config" not in json.loads(job.to_json())


@pytest.mark.parametrize("value", [0, -1, 10_000_001, "12", None, 1.0])
def test_a_count_of_chunks_that_is_none_is_refused(value):
    assert "of" in refused(ChunkMessage, {**CHUNK, "of": value})


JOB_IDS_REFUSED = [
    "",
    "ab",
    "../../etc/passwd",
    "a/b/c",
    "/abc",
    "abc/",
    "..",
    "...",
    ".abc",
    "-abc",
    "ABC",
    "abc\n",
    "abc\0",
    "a\\b\\c",
    "a b",
    "é23",
]


@pytest.mark.parametrize("job_id", [*JOB_IDS_REFUSED, "a" * 101, 123, None, ["abc"]])
def test_a_job_id_that_could_name_something_else_is_refused(job_id):
    for kind, data in [(StepMessage, ORDER), (ChunkMessage, CHUNK), (ScoreJob, SCORE), (TrainJob, TRAIN)]:
        assert "job_id" in refused(kind, {**data, "job_id": job_id})


PATHS_REFUSED = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../secret.csv",
    "data/../../secret.csv",
    "data/..",
    ".",
    "./data",
    "data/./x",
    "a//b",
    "a/",
    "a/b/",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\\b",
    "..\\secret",
    "C:\\table.csv",
    "s3://other/table.csv",
    "file:///etc/passwd",
    "data/s3://x",
    "\x1b[31mred",
    "x" * 256,
    "ü" * 200,
    "a/" * 600 + "b",
]


@pytest.mark.parametrize("path", PATHS_REFUSED)
def test_a_path_that_is_not_inside_the_bucket_is_refused(path):
    assert "table" in refused(ScoreJob, {**SCORE, "table": path})
    assert "place" in refused(ScoreJob, {**SCORE, "place": path})
    assert "train" in refused(TrainJob, {**TRAIN, "train": path})
    assert "eval" in refused(TrainJob, {**TRAIN, "eval": path})


@pytest.mark.parametrize("path", [path for path in PATHS_REFUSED if len(path) < 1000] + ["a\ud800b", "\udcff"])
def test_a_path_is_checked_the_same_way_outside_of_messages(path):
    with pytest.raises(ValueError, match=r"^must "):
        check_bucket_path(path)


@pytest.mark.parametrize(
    "path", ["a", "a.csv", "data/predict/input/2026/11/23", "...", "a b/ü.csv", ".hidden", "a..b/c", "~/x", "$HOME/x", "-rf"]
)
def test_a_path_that_only_looks_strange_is_a_path(path):
    assert check_bucket_path(path) == path


@given(st.text(max_size=40))
@settings(max_examples=200, deadline=None)
def test_whatever_path_is_accepted_stays_inside_the_bucket(path):
    try:
        accepted = check_bucket_path(path)
    except ValueError:
        return
    root = Path("/bucket")
    inside = Path("/bucket", accepted)
    assert inside.is_relative_to(root)
    assert inside != root
    assert ".." not in inside.parts


MODELS_REFUSED = ["", "1v", "../v1", "v1/x", "v1@", "v1@../../x", "v1@a/b", "v1@a@b", "v1 ", "v1\n", "@latest", "v" * 65, 5, None]


@pytest.mark.parametrize("model", MODELS_REFUSED)
def test_a_model_that_could_name_a_file_is_refused(model):
    assert "model" in refused(ScoreJob, {**SCORE, "model": model})
    assert "definition" in refused(TrainJob, {**TRAIN, "definition": model})
    if model is not None:
        assert "alias" in refused(TrainJob, {**TRAIN, "alias": model})


@pytest.mark.parametrize("rows", [0, -1, 1_000_000_001, "5", 5.0, True, math.nan])
def test_a_chunk_size_that_is_none_is_refused(rows):
    assert "chunk_rows" in refused(ScoreJob, {**SCORE, "chunk_rows": rows})


@pytest.mark.parametrize("share", [-0.1, 1.1, math.nan, math.inf, -math.inf, "0.5", None])
def test_a_share_outside_0_to_1_is_refused(share):
    assert "max_reject_share" in refused(ScoreJob, {**SCORE, "max_reject_share": share})


EDGES_OF_TIME = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]


@pytest.mark.parametrize("moment", ["2026-11-23T10:15:00", "2026-11-23", "yesterday", "", 1795428900, None, math.nan, *EDGES_OF_TIME])
def test_a_moment_without_a_time_zone_or_beyond_the_calendar_is_refused(moment):
    assert "created" in refused(ScoreJob, {**SCORE, "created": moment})


@pytest.mark.parametrize("count", [-1, 0.5, True, "3", 10**13])
def test_a_number_of_rejects_that_is_none_is_refused(count):
    assert "max_rejects" in refused(ScoreJob, {**SCORE, "max_rejects": count})


@pytest.mark.parametrize("half", [{"fixes": "20261123t100000z-77aa"}, {"fixed_rows": "corrected.csv"}])
def test_a_fix_needs_both_the_job_and_the_rows(half):
    assert "fixes and fixed_rows belong together" in refused(ScoreJob, {**SCORE, **half})


def test_a_number_of_five_thousand_digits_is_refused():
    refused(ChunkMessage, {**CHUNK, "index": 10**4000})
    refused(ChunkMessage, {**CHUNK, "index": 10**5000})


def test_a_message_that_is_too_long_is_refused_unread():
    for data in ({**ORDER, "surprise": "x" * MAX_MESSAGE_BYTES}, b" " * (MAX_MESSAGE_BYTES + 1)):
        assert "bytes long" in refused(StepMessage, data)
    with pytest.raises(MessageError, match="bytes long"):
        decode_job(json.dumps(SCORE).encode() + b" " * MAX_MESSAGE_BYTES)


@pytest.mark.parametrize("text", [b"[" * 60_000, b'{"a":' * 10_000, b'{"job_id":1' + b"0" * 5000 + b"}", b'"' + b"\\" * 999 + b'"'])
def test_a_message_made_to_break_a_parser_is_refused(text):
    refused(StepMessage, text)
    with pytest.raises(MessageError):
        decode_job(text)
    with pytest.raises(MessageError):
        decode_long(StepMessage, text)


def test_an_object_nested_too_deep_or_in_itself_is_refused():
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    refused(StepMessage, {**ORDER, "surprise": deep})
    circle: dict[str, object] = {}
    circle["circle"] = circle
    refused(StepMessage, circle)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"null", b"{}", b'{"kind": "drop"}', b'{"kind": ["score"]}', b"\xff", json.dumps(ORDER).encode()]
)
def test_a_file_that_is_no_job_is_refused(text):
    with pytest.raises(MessageError, match=r"^a ScoreJob"):
        decode_job(text)


def test_a_score_request_with_a_field_of_a_train_request_is_refused():
    with pytest.raises(MessageError, match="alias"):
        decode_job(json.dumps({**SCORE, "alias": "champion"}).encode())


@given(st.sampled_from([StepMessage, ChunkMessage, ScoreJob, TrainJob, Notice]), json_values)
@settings(max_examples=200, deadline=None)
def test_any_json_is_decoded_or_refused_and_nothing_else_happens(kind, data):
    try:
        decode(kind, data)
    except MessageError as error:
        assert "\n" not in error.message


@given(st.sampled_from(sorted(SCORE)), json_values)
@settings(max_examples=200, deadline=None)
def test_any_value_in_any_field_is_decoded_or_refused_and_nothing_else_happens(field, value):
    try:
        decode_job(json.dumps({**SCORE, field: value}).encode())
    except MessageError as error:
        assert "\n" not in error.message


@given(st.binary(max_size=60))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_decoded_or_refused_and_nothing_else_happens(text):
    with pytest.raises(MessageError):
        decode_job(text)


def test_a_message_never_changes():
    order = StepMessage(job_id="abc")
    with pytest.raises(ValueError, match="frozen"):
        order.job_id = "other"


@pytest.mark.parametrize(
    ("ref", "is_one"),
    [
        ("v1@20261123T101500Z-9bfad3", True),
        ("v1@latest", False),
        ("v1", False),
        ("v1@20261123T101500Z-9bfad3\n", False),
        ("@20261123T101500Z-9bfad3", False),
    ],
)
def test_only_the_full_id_of_a_release_is_one(ref, is_one):
    assert is_release_id(ref) is is_one


def test_a_training_that_does_not_promote_is_written_as_before_there_was_a_gate():
    assert "promote" not in TrainJob.decode(TRAIN).encode()
    assert TrainJob.decode(TRAIN).promote == "never"


@pytest.mark.parametrize("wrong", [{"promote": "perhaps"}, {"promote": "auto", "alias": "champion"}])
def test_a_training_promotes_in_one_way_or_not_at_all(wrong):
    with pytest.raises(MessageError):
        TrainJob.decode(TRAIN | wrong)
