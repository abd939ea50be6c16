"""Formats notice text for any webhook: escapes control characters and shortens long text."""

import bisect
import itertools
from collections.abc import Mapping

from shared.text.plain import plain

LONGEST_TITLE, LONGEST_TEXT = 500, 2000
"""Maximum characters, with escapes: an error may quote a whole row, and webhooks reject messages that are too long."""
CUT = "..."


def shorten(text: str, longest: int, entities: Mapping[str, str] | None = None) -> str:
    """Returns the text with each character replaced by its entity, then cut to ``longest`` characters, never inside an entity."""
    characters = plain(text, lines=True)
    pieces = [entities.get(character, character) for character in characters] if entities else list(characters)
    lengths = list(itertools.accumulate(map(len, pieces)))
    if not lengths or lengths[-1] <= longest:
        return "".join(pieces)
    return "".join(pieces[: bisect.bisect_right(lengths, longest - len(CUT))]) + CUT
