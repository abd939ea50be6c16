"""The marks of match types around keywords: ``[exact]``, ``"phrase"``, ``+broad +modified``."""

import pyarrow as pa
import pyarrow.compute as pc

COLUMN = "Match type"
EXACT, PHRASE, BROAD = "Exact", "Phrase", "Broad"

_EXACT = r"^\[[^\[\]]+\]$"
_PHRASE = r"""^(?:"[^"]+"|“[^“”]+”|„[^„“]+“|«[^«»]+»)$"""
_MODIFIED = r"^\+\S+(?:\s+\+?\S+)*$"
_AROUND = r'^[\["“„«]\s*|\s*[\]"”“»]$'


def without_marks(keywords: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray | None]:
    """Returns the keywords without marks, and the match type of each; None if no keyword has a mark."""
    exact, phrase, modified = (pc.match_substring_regex(keywords, pattern) for pattern in (_EXACT, _PHRASE, _MODIFIED))
    marked = pc.or_(exact, phrase)
    if not pc.any(pc.or_(marked, modified)).as_py():
        return keywords, None
    plain = pc.if_else(marked, pc.replace_substring_regex(keywords, _AROUND, ""), keywords)
    plain = pc.if_else(modified, pc.replace_substring_regex(plain, r"(^|\s)\+", r"\1"), plain)
    types = pc.if_else(exact, EXACT, pc.if_else(phrase, PHRASE, pc.if_else(pc.is_valid(keywords), BROAD, pa.scalar(None, pa.string()))))
    return plain, types
