"""A training moves the champion when the gate lets it, once, and never over a champion that it was not compared with."""

import io

import pytest
from rich.console import Console

from model_store import store
from producers.display import releases
from producers.display.jobs import outcome_facts
from producers.releases import finding
from shared.bucket.local import LocalBucket
from shared.catalog.aliases import changes, list_aliases, point_alias
from shared.catalog.keyword_losses import read_losses
from shared.catalog.manifests import LOSSES, REPORT
from tests.handmade import NOON, die_after, publish_handmade, tree
from tests.trainings import EVAL, GUESSING, TRAIN, add_definition, make_training, manifest_of, train, write_training_tables
from workers.notices.delivery import compose
from workers.training import aliases, fitting, releasing, rivals


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    bucket = LocalBucket(tmp_path_factory.mktemp("tables") / "bucket")
    write_training_tables(bucket)
    return bucket


@pytest.fixture
def bucket(tmp_path, tables) -> LocalBucket:
    bucket = LocalBucket(tmp_path / "bucket")
    for path in (TRAIN, EVAL):
        bucket.write(path, tables.read(path))
    return bucket


@pytest.fixture
def definitions(tmp_path):
    return add_definition(tmp_path / "definitions", "guessing")


def champion(bucket: LocalBucket) -> str | None:
    return list_aliases(bucket).get("champion")


def test_the_first_release_that_beats_the_naive_predictors_becomes_champion_and_a_worse_one_does_not_follow(bucket, definitions):
    first = train(make_training(bucket, promote="auto"))
    assert champion(bucket) == first.release
    assert first.facts["gate"].startswith("passed the gate: it beats every naive predictor, and there was no champion")
    worse = train(make_training(bucket, "guessing", minute=1, promote="auto"), definitions)
    assert champion(bucket) == first.release
    assert worse.facts["gate"].startswith("not promoted: its log-loss per click is 0.")
    assert f" higher) than that of the champion {first.release}, and the whole interval must be lower" in worse.facts["gate"]
    evaluation = manifest_of(bucket, worse).evaluation
    assert evaluation.gate.reason == worse.facts["gate"]
    assert evaluation.differences[first.release].low > 0
    assert read_losses(bucket.read(f"{worse.result}/{LOSSES}"), "x").losses.keys() == {worse.release, first.release}


def test_the_history_says_whether_the_gate_let_it_pass_or_was_overruled(bucket, definitions):
    train(make_training(bucket, "guessing", promote="always"), definitions)
    [forced] = changes(bucket, "champion")
    assert forced.reason.startswith("promoted always (gate refused: its log-loss per click is 0.")
    train(make_training(bucket, minute=1, promote="always"), definitions)
    assert next(changes(bucket, "champion")).reason == "promoted always (passed the gate)"
    point_alias(bucket, "champion", forced.release)
    train(make_training(bucket, minute=2, promote="auto"), definitions)
    assert next(changes(bucket, "champion")).reason == "passed the gate"


def test_the_next_step_names_the_release_by_its_full_id_whatever_names_mean_it(bucket):
    for minute, more in enumerate(({}, {"promote": "auto"}, {"alias": "challenger"})):
        outcome = train(make_training(bucket, minute=minute, **more))
        assert outcome.next_step == f"Score with it: scoring score TABLE --model {outcome.release}"


@pytest.mark.parametrize("damage", [b"", b'{"release": "v1@2026', b'{"format": 9}'])
def test_a_damaged_alias_stops_no_training_and_a_damaged_champion_is_not_replaced_by_the_gate(bucket, damage):
    bucket.write("model/aliases/challenger.json", damage)
    bucket.write("model/aliases/history/champion/000001.json", damage)
    outcome = train(make_training(bucket, promote="auto"))
    assert "the alias champion cannot be read: model/aliases/history/champion/000001.json" in outcome.facts["gate"]
    assert list_aliases(bucket) == {"v1.latest": outcome.release}
    asked = train(make_training(bucket, minute=1, alias="challenger"))
    assert list_aliases(bucket) == {"v1.latest": asked.release, "challenger": asked.release}


def test_a_champion_worse_than_the_candidate_is_replaced(bucket, definitions):
    guessing = train(make_training(bucket, "guessing", promote="always"), definitions)
    assert champion(bucket) == guessing.release
    better = train(make_training(bucket, "v1", minute=1, promote="auto"), definitions)
    assert champion(bucket) == better.release
    assert "it beats the champion and every naive predictor" in better.facts["gate"]


def test_nobody_is_promoted_unasked_or_for_figures_on_the_training_table(bucket):
    assert train(make_training(bucket)).promotion is None
    assert "because nobody asked for it" in train(make_training(bucket, minute=3, alias="challenger")).facts["gate"]
    in_sample = train(make_training(bucket, minute=1, promote="auto", eval=None))
    assert "it was judged on no table but the one it was trained on" in in_sample.facts["gate"]
    same = train(make_training(bucket, minute=2, promote="auto", eval=TRAIN))
    assert same.facts["gate"] == in_sample.facts["gate"]
    assert champion(bucket) is None


def test_nobody_is_promoted_for_figures_on_a_file_or_week_that_it_was_trained_on(bucket):
    folder, more = TRAIN.rpartition("/")[0], TRAIN.replace("train.csv", "more.csv")
    whole = train(make_training(bucket, promote="auto", train=folder))
    assert whole.facts["gate"].startswith(f"not promoted: it was judged on {EVAL}, a file that it was trained on, and such figures")
    header, *rows = (bucket.read(EVAL) or b"").splitlines(keepends=True)
    bucket.write(more, header + b"".join(rows[:100]))
    bucket.write(EVAL, header + b"".join(rows[100:]))
    bucket.write(f"data/aside/{EVAL}", bucket.read(EVAL) or b"")
    bucket.delete(EVAL)
    week = train(make_training(bucket, minute=1, promote="auto", train=folder, eval=f"data/aside/{EVAL}"))
    assert "not promoted: it was judged on week 2, of which it was trained on some rows" in week.facts["gate"]
    assert champion(bucket) is None


def test_a_champion_by_alias_does_not_carry_the_words_that_nobody_asked_for_it(bucket):
    outcome = train(make_training(bucket, alias="champion"))
    assert champion(bucket) == outcome.release
    assert outcome.facts["gate"].startswith("made champion by --alias, past the gate; the gate would have promoted it: it beats every")
    assert manifest_of(bucket, outcome).evaluation.gate.reason == outcome.facts["gate"]


def test_a_champion_trained_on_the_evaluation_table_is_not_beaten_on_it_nor_judged_by_it(bucket):
    seen = train(make_training(bucket, train=EVAL, eval=None))
    point_alias(bucket, "champion", seen.release)
    bucket.write("data/train/copy.csv", bucket.read(EVAL) or b"")
    outcome = train(make_training(bucket, minute=1, promote="auto", eval="data/train/copy.csv"))
    assert outcome.facts["gate"].startswith(
        f"not promoted: the champion {seen.release} was trained on the evaluation table, so the two cannot be compared; evaluate on another"
    )
    manifest = manifest_of(bucket, outcome)
    assert manifest.evaluation.not_compared == {seen.release: "it was trained on this table"}
    assert seen.release not in manifest.evaluation.differences | manifest.metrics["eval"] | manifest.evaluation.gains
    assert champion(bucket) == seen.release


def test_a_champion_that_cannot_be_loaded_is_said_in_words_and_stays(bucket, definitions):
    old = train(make_training(bucket, "guessing", promote="always"), definitions)
    (definitions / "guessing" / "model.py").write_text("# changed\n" + (definitions / "guessing" / "model.py").read_text())
    outcome = train(make_training(bucket, minute=1, promote="auto"), definitions)
    assert outcome.state == "done"
    assert f"not promoted: it could not be compared with the champion {old.release}: the code of the definition" in outcome.facts["gate"]
    assert list(manifest_of(bucket, outcome).evaluation.not_compared) == [old.release]
    assert champion(bucket) == old.release


def test_releases_that_are_not_compared_with_are_named_with_the_reason_in_manifest_report_and_show(bucket, definitions, monkeypatch):
    monkeypatch.setattr(rivals, "MOST_RIVALS", 1)
    add_definition(definitions, "other")
    left = {train(make_training(bucket, name, minute=minute), definitions).release for minute, name in enumerate(("guessing", "other"))}
    outcome = train(make_training(bucket, minute=2), definitions)
    evaluation = manifest_of(bucket, outcome).evaluation
    [(release, why)] = evaluation.not_compared.items()
    assert {release} == left - evaluation.differences.keys()
    assert why == "no more than the champion and 1 other releases are"
    page = bucket.read(f"{outcome.result}/{REPORT}").decode()
    text = io.StringIO()
    releases.print_release(Console(file=text, width=200), finding.find_release(bucket, outcome.release))
    for shown in (page, text.getvalue()):
        assert "ot compared with" in shown
        assert release in shown
        assert why in shown


def test_a_champion_that_needs_columns_which_the_table_lacks_is_said_in_words(bucket):
    point_alias(bucket, "champion", publish_handmade(bucket))
    outcome = train(make_training(bucket, promote="auto"))
    assert f"{EVAL} lacks the column length" in outcome.facts["gate"]


def test_the_rivals_are_the_champion_and_the_newest_releases_whatever_they_are_called(bucket, definitions, monkeypatch):
    monkeypatch.setattr(rivals, "MOST_RIVALS", 1)
    add_definition(definitions, "zzz")
    train(make_training(bucket, "zzz"), definitions)
    newer = train(make_training(bucket, "guessing", minute=1), definitions)
    outcome = train(make_training(bucket, minute=2), definitions)
    assert [name for name in manifest_of(bucket, outcome).evaluation.differences if "@" in name] == [newer.release]


def test_rates_in_a_column_are_taken_in_training_and_of_a_rival_as_they_are_in_scoring(bucket, definitions):
    add_definition(definitions, "column", GUESSING.replace("np.full(len(X), self.model)", "np.full((len(X), 1), self.model)"))
    column = train(make_training(bucket, "column", promote="always"), definitions)
    plain = train(make_training(bucket, "guessing", minute=1), definitions)
    assert manifest_of(bucket, column).metrics["eval"]["column"] == manifest_of(bucket, plain).metrics["eval"]["guessing"]
    assert manifest_of(bucket, plain).evaluation.differences[column.release].value == 0


def narrow(definitions, name: str, column: str):
    """Adds a definition that needs one column alone."""
    return add_definition(definitions, name, GUESSING.replace('"model.txt"', f'"model.txt"\n    COLUMNS = ("{column}",)'))


def test_a_champion_that_can_use_other_rows_of_the_table_is_not_compared_with(bucket, definitions):
    narrow(definitions, "first", "att1")
    narrow(definitions, "second", "att2")
    train(make_training(bucket, "first", promote="always"), definitions)
    # two rows of one keyword: the champion can use only the second of them, the candidate only the first
    header, *rows = (bucket.read(EVAL) or b"").decode().splitlines()
    at = next(number for number in range(len(rows)) if rows[number].split(",")[0] == rows[number + 1].split(",")[0])
    for number, column in ((at, "att1"), (at + 1, "att2")):
        cells = rows[number].split(",")
        cells[header.split(",").index(column)] = "broken"
        cells[-2:] = ["7", str(number - at)]
        rows[number] = ",".join(cells)
    bucket.write(EVAL, "\n".join([header, *rows, ""]).encode())
    outcome = train(make_training(bucket, "second", minute=1, promote="auto"), definitions)
    assert "it could not be compared with the champion" in outcome.facts["gate"]
    assert f"of {EVAL} it can use other rows" in outcome.facts["gate"]


def test_a_champion_that_needs_the_table_once_more_is_not_compared_with_when_it_changed(bucket, definitions, monkeypatch):
    narrow(definitions, "first", "att1")
    narrow(definitions, "second", "att2")
    train(make_training(bucket, "first", promote="always"), definitions)
    fit, text = fitting.fit, (bucket.read(EVAL) or b"").decode()
    header, first, *rows = text.splitlines()
    cells = first.split(",")
    cells[1] = "0" if cells[1] == "1" else "1"
    changed = "\n".join([header, ",".join(cells), *rows, ""]).encode()
    monkeypatch.setattr(fitting, "fit", lambda *arguments: (bucket.write(EVAL, changed), fit(*arguments))[1])
    monkeypatch.setattr(releasing, "fit", lambda *arguments: (bucket.write(EVAL, changed), fit(*arguments))[1])
    outcome = train(make_training(bucket, "second", minute=1, promote="auto"), definitions)
    assert f"{EVAL} changed before it could be read once more" in outcome.facts["gate"]


@pytest.mark.parametrize(
    ("held", "says"),
    [("odd", "the definition guessing gave predictions of type <U3"), ("nan", "something else than one finite number")],
)
def test_a_champion_whose_code_fails_once_it_is_loaded_is_said_in_words(bucket, definitions, held, says):
    spoil_loading(definitions, f"self.model = {held!r} if {held!r} == 'odd' else float({held!r})")
    train(make_training(bucket, "guessing", promote="always"), definitions)
    (definitions / "guessing" / "spoiled").touch()
    outcome = train(make_training(bucket, minute=1, promote="auto"), definitions)
    assert says in outcome.facts["gate"]
    assert outcome.state == "done"


def spoil_loading(definitions, statement: str) -> None:
    """Lets the definition "guessing" do this when it is loaded while there is a file ``spoiled`` beside its code."""
    file = definitions / "guessing" / "model.py"
    file.write_text(file.read_text() + f"        if Path(__file__).with_name('spoiled').exists():\n            {statement}\n")


def test_a_promotion_killed_after_any_of_its_writes_is_completed_by_the_next_run(bucket, monkeypatch):
    bucket.write(TRAIN, b"\n".join((bucket.read(TRAIN) or b"").splitlines()[:500]) + b"\n")
    kills = 0
    for number in range(1, 40):
        bucket.delete("model/aliases/champion.json")
        folder = make_training(bucket, minute=number, promote="always", eval=None)
        with monkeypatch.context() as patch:
            left = die_after(patch, bucket, number, ("create", "writer", "put_folder"))
            try:
                train(folder)
            except KeyboardInterrupt:
                kills += 1
        outcome = train(folder)
        assert champion(bucket) == outcome.release, number
        before = tree(bucket.root)
        train(folder)
        assert tree(bucket.root) == before
        if left[0] >= 0:
            break
    assert kills >= 6, "the kills did not go through the whole training"


def test_the_notice_says_what_became_of_the_champion_and_not_what_was_planned(bucket, monkeypatch):
    moved = make_training(bucket, promote="auto")
    release = train(moved).release
    assert moved.status().outcome.facts["champion"] == f"means {release} now"
    newer, decided = publish_handmade(bucket), aliases.point_aliases
    monkeypatch.setattr(aliases, "point_aliases", lambda *job: (point_alias(bucket, "champion", newer), decided(*job))[1])
    monkeypatch.setattr(releasing, "point_aliases", lambda *job: (point_alias(bucket, "champion", newer), decided(*job))[1])
    overtaken = make_training(bucket, "v1", minute=1, promote="always")
    train(overtaken)
    said = f"not moved: it came to mean {newer} after the training had ended"
    assert outcome_facts(overtaken.status().outcome)["champion"] == said
    assert compose(overtaken, overtaken.outcome()).facts["champion"] == said
    assert "passed the gate: " not in overtaken.outcome().facts["gate"]
    monkeypatch.undo()
    bucket.delete(moved.file("published.json"))
    train(moved)
    assert moved.status().outcome.facts["champion"] == f"was moved to {release}, and means {newer} by now"


def test_a_run_that_comes_late_leaves_the_champion_that_followed(bucket):
    folder = make_training(bucket, promote="auto")
    train(folder)
    newer = publish_handmade(bucket, made=NOON.replace(hour=13))
    point_alias(bucket, "champion", newer)
    bucket.delete(folder.file("published.json"))
    train(folder)
    assert champion(bucket) == newer


def test_a_champion_of_the_meantime_is_not_replaced_because_it_was_not_compared_with(bucket, monkeypatch):
    publish, newer = store.publish, publish_handmade(bucket)
    monkeypatch.setattr(releasing, "publish", lambda *arguments: (point_alias(bucket, "champion", newer), publish(*arguments))[1])
    outcome = train(make_training(bucket, promote="auto"))
    assert champion(bucket) == newer
    assert outcome.promotion is None
    assert outcome.facts["gate"].startswith(f"not promoted: {newer} became the champion meanwhile, and it was not compared with that")
