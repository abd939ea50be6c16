"""The boundary around a definition's code lets through the shutdown of the worker and the end of a step's time, and nothing else."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from billiard.exceptions import SoftTimeLimitExceeded

from model_store import definitions
from model_store.definitions import current_digest, digest_source, load_definition
from model_store.foreign_code import DefinitionError, DefinitionHungError, calling
from shared.errors import ModelError, TableError
from tests.trainings import GUESSING, add_definition

HERE = Path(__file__).parent


def fail(error: BaseException) -> None:
    with calling("v9", HERE, "predict"):
        raise error


@pytest.mark.parametrize("error", [SystemExit(0), GeneratorExit(), MemoryError(), KeyError("x"), OSError(5, "gone"), ModelError("no")])
def test_whatever_is_raised_becomes_one_sentence_with_file_and_line(error):
    with pytest.raises(DefinitionError, match=rf"the definition v9 failed in predict: .* \({__file__}, line \d+\)"):
        fail(error)


@pytest.mark.parametrize("size", [None, 1 << 50])
def test_code_that_runs_out_of_memory_says_how_much_there_is_and_asks_for_more(size):
    with pytest.raises(DefinitionError) as raised, calling("v9", HERE, "predict"):
        if size is None:
            raise MemoryError
        np.zeros(size)
    says = r"failed in predict: it ran out of memory, of which its process may use [\d.,]+ [GM]B, .*"
    assert re.search(rf"the definition v9 {says} \({__file__}, line \d+\)", raised.value.message)
    assert raised.value.next_step.startswith("Give the workers more memory or fewer processes")
    assert raised.value.on("line 2").next_step == raised.value.next_step


def test_a_refused_table_stays_one():
    with pytest.raises(TableError, match="no column x"):
        fail(TableError("no column x"))


def test_the_end_of_the_time_is_marked_with_whose_code_it_struck_and_stays_the_end_of_the_time():
    with pytest.raises(SoftTimeLimitExceeded) as raised:
        fail(SoftTimeLimitExceeded())
    assert isinstance(raised.value, DefinitionHungError)
    assert "the definition v9 failed in predict: it hung, and was stopped in" in raised.value.failure.message
    assert raised.value.failure.exit_code == 4


def test_ctrl_c_passes_but_not_where_it_is_ignored_as_in_a_worker_process():
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(DefinitionError):
            fail(KeyboardInterrupt())
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_shutdown_of_a_pool_process_passes():
    code = f"""
import os, signal
from pathlib import Path
from billiard.common import reset_signals
from model_store.foreign_code import calling
reset_signals(full=False)
with calling("v9", Path({str(HERE)!r}), "predict"):
    os.kill(os.getpid(), signal.SIGTERM)
    raise KeyError
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode % 256, done.stderr) == (signal.SIGTERM, "")


def test_an_edit_of_the_same_size_in_the_same_second_is_other_code(tmp_path):
    add_definition(tmp_path, "quick")
    file = tmp_path / "quick" / "model.py"
    stamp = file.stat()
    first = load_definition("quick", tmp_path)
    assert current_digest("quick", tmp_path) == (first.source_sha256, file.parent)
    file.write_text(GUESSING.replace("self.model = 0.04", "self.model = 0.05"))
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    second = load_definition("quick", tmp_path)
    assert current_digest("quick", tmp_path) == (second.source_sha256, file.parent)
    models = [definition.model_class() for definition in (first, second)]
    for model in models:
        with pytest.raises(TypeError):  # after it took its number
            model.train(None, None)
    assert [model.model for model in models] == [0.04, 0.05]


def test_a_definition_that_is_gone_has_no_digest(tmp_path):
    assert current_digest("nothing", tmp_path) is None


def test_code_that_cannot_be_read_is_named(tmp_path):
    add_definition(tmp_path, "odd")
    (tmp_path / "odd" / "folder.py").mkdir()
    with pytest.raises(ModelError, match=r"the code of the definition odd cannot be read: .*folder.py: Is a directory"):
        digest_source(tmp_path / "odd")


@pytest.mark.parametrize(
    ("attribute", "says"),
    [
        ("KEYS = 'keyword'", r"KEYS must be a tuple of names: write \('keyword',\)"),
        ("COLUMNS = 5", "'int' object is not iterable"),
        ("MODEL_FILE = '../model.txt'", "has a MODEL_FILE that is not the name of a file: '../model.txt'"),
        ("MODEL_FILE = None", "has a MODEL_FILE that is not the name of a file: None"),
    ],
)
def test_what_a_class_says_of_itself_is_read_with_care(tmp_path, attribute, says):
    add_definition(tmp_path, "odd", GUESSING.replace('MODEL_FILE = "model.txt"', attribute))
    with pytest.raises(ModelError, match=says):
        definitions.load_definition("odd", tmp_path)
