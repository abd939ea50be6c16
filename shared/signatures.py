r"""Signs the manifests of releases and results, so that a process with write access to the bucket but no key cannot forge them.

The signature is the last field of a manifest: the HMAC-SHA256 of every byte before it. It covers the text in the bucket and is checked
before the text is parsed. So reformatting a signed manifest invalidates its signature. ::

    {
     "format": 1,
     ...
     "seconds": 1.5,
     "signature": "5b3c..."
    }

The signed text ends with ``1.5``: to check it, remove ``,\n "signature": "..."\n}``.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum

SHORTEST_KEY = 16
"""In characters; a shorter key could be guessed."""

_SIGNED = re.compile(rb'(.*),\n "signature": "([0-9a-f]{64})"\n}', re.DOTALL)


class Signature(StrEnum):
    """The state of a manifest's signature; the values are shown to people."""

    RIGHT = "yes"
    MISSING = "no"
    WRONG = "no: changed since, or by another key"
    UNCHECKED = "not checked: SCORING_STORE_KEY is not set"

    @property
    def is_trusted(self) -> bool:
        """False when a key is set here and the signature is missing or wrong."""
        return self in (Signature.RIGHT, Signature.UNCHECKED)


@dataclass(frozen=True)
class Signer:
    """Signs with the first of its keys and accepts a signature by any of them; without keys it does neither."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    def sign(self, text: bytes) -> bytes:
        """Adds a signature to the JSON text of an unsigned manifest; without a key, returns the text unchanged."""
        if not self.keys:
            return text
        body = text.removesuffix(b"\n}")
        return body + b',\n "signature": "%s"\n}' % _hmac(self.keys[0], body)

    def check(self, text: bytes) -> Signature:
        """Checks whether the text of a manifest was signed with one of the keys and has not changed since."""
        if not self.keys:
            return Signature.UNCHECKED
        signed = _SIGNED.fullmatch(text)
        if signed is None:
            return Signature.MISSING
        body, found = signed.groups()
        # compare_digest takes constant time, so it reveals nothing about an almost correct signature
        right = [hmac.compare_digest(_hmac(key, body), found) for key in self.keys]
        return Signature.RIGHT if any(right) else Signature.WRONG


NO_SIGNER = Signer()


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()
