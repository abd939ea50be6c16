"""The text of a rate: the digits of a prediction file, in a JSON number."""

import pyarrow as pa

_PLAIN_FROM = 1e-4
"""From here to 1, Python writes the shortest digits without an exponent, as Arrow does in a prediction file."""


def rate_text(rate: float) -> str:
    """Returns a rate from 0 to 1 as a prediction file has it."""
    if _PLAIN_FROM <= rate < 1:
        return repr(rate)
    text: str = pa.array([rate]).cast(pa.string())[0].as_py()
    return text
