"""Gives two indexes keys of the same form: whole numbers, or text if one of the two has text keys.

One id that does not fit into a whole key makes all keys of its result text, although the keywords are those of the result before.
"""

import tempfile

from shared.bucket.mapping import map_file
from shared.indexing.index_files import write_text_index
from shared.prediction_index import PredictionIndex


def with_keys_of_one_form(old: PredictionIndex, new: PredictionIndex) -> tuple[PredictionIndex, PredictionIndex]:
    """Returns both indexes; if only one has whole keys, a copy of it with text keys, in a temporary file without a name.

    Raises:
        ValueError: the results have different key columns.
    """
    if old.keys != new.keys:
        raise ValueError(f"the two results have different key columns: {', '.join(old.keys)} and {', '.join(new.keys)}")
    if old.has_whole_keys == new.has_whole_keys:
        return old, new
    return (_with_text_keys(old), new) if old.has_whole_keys else (old, _with_text_keys(new))


def _with_text_keys(index: PredictionIndex) -> PredictionIndex:
    with tempfile.TemporaryFile() as file:
        write_text_index(file, index.shape, index.batches(), index.feature_counts)
        file.flush()
        return PredictionIndex(map_file(file), "an index with its keys as text")
