"""An index gets text keys for a comparison: the same rows in the order of the text."""

import numpy as np
import pytest

from shared.guard.key_forms import with_keys_of_one_form
from tests.unit.workers.guard.made_up import index, keys

KEYS = np.append(keys(60_000), [4, 4])
ROWS = np.arange(len(KEYS))
WHOLE = index(KEYS, ROWS / len(KEYS), features=ROWS, clicks=ROWS % 7, ones={"att1": 5})
TEXT = index(np.array(["7|0"]), [0.5])


def test_the_copy_has_the_same_rows_in_the_order_of_the_text():
    copy, other = with_keys_of_one_form(WHOLE, TEXT)
    assert other is TEXT
    assert (copy.rows, copy.feature_counts, copy.columns) == (WHOLE.rows, WHOLE.feature_counts, WHOLE.columns)
    texts = np.array([f"{key >> 2}|{key & 3}" for key in KEYS])
    order = np.argsort(texts, kind="stable")
    found = copy.at(0, copy.rows)
    assert found.key.tolist() == texts[order].tolist()
    assert found.line.tolist() == (ROWS[order] + 2).tolist()
    assert found.clicks.tolist() == (ROWS[order] % 7).tolist()
    assert found.digest[:, 0].tolist() == ROWS[order].tolist()


def test_indexes_of_one_form_are_not_copied():
    assert with_keys_of_one_form(WHOLE, WHOLE) == (WHOLE, WHOLE)
    assert with_keys_of_one_form(TEXT, TEXT) == (TEXT, TEXT)


def test_other_key_columns_are_refused():
    with pytest.raises(ValueError, match="different key columns: entity_id, device and entity_id"):
        with_keys_of_one_form(WHOLE, index(KEYS, ROWS / len(KEYS), key_columns=("entity_id",)))


def test_an_index_without_rows_gets_text_keys():
    _, copy = with_keys_of_one_form(TEXT, index(KEYS[:0], []))
    assert (copy.rows, copy.has_whole_keys) == (0, False)
