"""The one rule for what a definition may predict: one number a row, as a list or as a column."""

import numpy as np

from shared.errors import ModelError


def one_a_row(name: str, method: str, predicted: object, count: int) -> np.ndarray:
    """The predictions as float64; raises ModelError when they are not one a row."""
    numbers = np.asarray(predicted, dtype=np.float64)
    if numbers.shape not in ((count,), (count, 1)):
        raise ModelError(
            f"the definition {name} gave {' x '.join(map(str, numbers.shape)) or 'no'} predictions for {count} rows",
            next_step=f"Mend its {method}, then see: scoring models check {name}",
        )
    return numbers.reshape(count)
