"""The groups of rows that are judged together: the devices, or all rows."""

from dataclasses import dataclass

import numpy as np

from shared.guard.verdict import ALL
from shared.index_format import DEVICE, DEVICE_BITS, DEVICES
from shared.prediction_index import PredictionIndex

_DEVICE_MASK = (1 << DEVICE_BITS) - 1


@dataclass(frozen=True)
class Groups:
    """The groups of a comparison; a row's code is the position of its group in ``names``."""

    names: tuple[str, ...]
    by_device: bool

    def codes(self, keys: np.ndarray) -> np.ndarray:
        """The group of each key, int64."""
        return keys & _DEVICE_MASK if self.by_device else np.zeros(len(keys), dtype=np.int64)

    def key_in_words(self, key: object) -> tuple[str, str]:
        """Keyword and device of a key."""
        if not isinstance(key, int | np.integer):
            return str(key), ALL
        return str(int(key) >> DEVICE_BITS), self.names[int(key) & _DEVICE_MASK] if self.by_device else ALL


BY_DEVICE = Groups((*DEVICES, "unknown device"), by_device=True)
ONE_GROUP = Groups((ALL,), by_device=False)


def groups_of(*indexes: PredictionIndex) -> Groups:
    """Returns the devices if the last two bits of all keys are the device, else one group."""
    return BY_DEVICE if all(index.has_whole_keys and DEVICE in index.keys for index in indexes) else ONE_GROUP
