"""Bearer tokens of two kinds: ``rates`` reads rates, ``jobs`` enqueues and decides."""

import hashlib
import hmac
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from pydantic import SecretStr

from shared.settings import SERVE_TOKEN_KINDS, serve_tokens_of

BEARER = b"bearer "


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The accepted tokens, as digests, by kind."""

    digests: Mapping[str, tuple[bytes, ...]]

    @staticmethod
    def of(secret: SecretStr) -> "Tokens":
        """Reads the setting ``SCORING_SERVE_TOKENS``."""
        given = [token.partition(":") for token in serve_tokens_of(secret)]
        return Tokens(
            digests={kind: tuple(_digest(text.encode()) for found, _, text in given if found == kind) for kind in SERVE_TOKEN_KINDS}
        )

    @property
    def are_set(self) -> bool:
        """False if no token of any kind is set."""
        return any(self.digests.values())

    def is_open(self, kind: str) -> bool:
        """Returns True if requests of a kind need no token: rates, while no token is set."""
        return kind == "rates" and not self.are_set

    def accepts(self, kind: str, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Returns True if the headers hold a token of this kind; the time that it takes says nothing about the tokens."""
        given = bearer_of(headers)
        # every token is compared, also after a match
        return given is not None and sum(hmac.compare_digest(_digest(given), known) for known in self.digests[kind]) > 0


def bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Returns the token of the header ``Authorization: Bearer TOKEN``, or None."""
    for name, value in headers:
        if name == b"authorization":
            return value[len(BEARER) :].strip() if value[: len(BEARER)].lower() == BEARER else None
    return None


def name_of_caller(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """Returns a name for the holder of a token, for records: the start of its digest."""
    return f"http token {_digest(bearer_of(headers) or b'').hex()[:8]}"


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
