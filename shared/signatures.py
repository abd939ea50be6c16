r"""Signs the manifests of releases and results, so that who can write to the bucket, but has no key, cannot pass off a file as ours.

The signature is the last field of a manifest, and the HMAC-SHA256 of every byte before it: what is judged is the text as it lies in
the bucket, before any of it is parsed. A signed manifest that was formatted anew is therefore a changed one. ::

    {
     "format": 1,
     ...
     "seconds": 1.5,
     "signature": "5b3c..."
    }

The text that is signed ends with ``1.5``: whoever wants to check one takes away ``,\n "signature": "..."\n}``.
"""

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum

SHORTEST_KEY = 16
"""Characters; a shorter key could be guessed."""

_SIGNED = re.compile(rb'(.*),\n "signature": "([0-9a-f]{64})"\n}', re.DOTALL)


class Signature(StrEnum):
    """What can be said of the signature of a manifest, in words for people."""

    RIGHT = "yes"
    MISSING = "no"
    WRONG = "no: changed since, or by another key"
    UNCHECKED = "not checked: SCORING_STORE_KEY is not set"


@dataclass(frozen=True)
class Signer:
    """Signs with the first of its keys and knows a signature by any of them; without keys it does neither."""

    keys: tuple[bytes, ...] = field(default=(), repr=False)

    def sign(self, text: bytes) -> bytes:
        """The JSON text of a manifest that has no signature yet, with one; as it is when there is no key."""
        if not self.keys:
            return text
        body = text.removesuffix(b"\n}")
        return body + b',\n "signature": "%s"\n}' % _hmac(self.keys[0], body)

    def check(self, text: bytes) -> Signature:
        """Whether the text of a manifest was signed with one of the keys and not changed since."""
        if not self.keys:
            return Signature.UNCHECKED
        signed = _SIGNED.fullmatch(text)
        if signed is None:
            return Signature.MISSING
        body, found = signed.groups()
        # compare_digest takes as long for a signature that is almost right as for one that is all wrong
        right = [hmac.compare_digest(_hmac(key, body), found) for key in self.keys]
        return Signature.RIGHT if any(right) else Signature.WRONG


NO_SIGNER = Signer()


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.new(key, text, hashlib.sha256).hexdigest().encode()
