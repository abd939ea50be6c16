"""Several sentences in one line of text, each with its number, and in a line each where a medium has lines."""

from collections.abc import Sequence

_BETWEEN = "; "


def numbered(sentences: Sequence[str]) -> str:
    """Returns one sentence as it is, and several as ``(1) first; (2) second``."""
    if len(sentences) == 1:
        return sentences[0]
    return _BETWEEN.join(f"({number}) {sentence}" for number, sentence in enumerate(sentences, 1))


def in_lines(text: str) -> list[str]:
    """Returns the lines of a text with ``numbered`` sentences: what is before them, and each of them; any other text is one line."""
    head, _, rest = text.partition("(1) ")
    if f"{_BETWEEN}(2) " not in rest:
        return [text]
    lines, number = [head.rstrip()] if head.strip() else [], 1
    while (end := f"{_BETWEEN}({number + 1}) ") in rest:
        sentence, _, rest = rest.partition(end)
        lines.append(f"({number}) {sentence}")
        number += 1
    return [*lines, f"({number}) {rest}"]
