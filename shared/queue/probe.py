"""Probes: messages that ask the consumer of a queue to answer. They prove that work is consumed, not only that processes are alive.

The answer stays in Redis for a minute: a field for each queue of a hash ``scoring:canary:<token>``.
"""

import secrets
from typing import Annotated

import redis
from pydantic import Field, StringConstraints

from shared.errors import MessageError
from shared.records import Record, Sha256, decode

KEPT_SECONDS = 60
LONGEST_REASON = 500


class Probe(Record):
    """A request for an answer."""

    token: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")] = Field(default_factory=lambda: secrets.token_hex(8))
    tell_people: bool = False
    """True to send a test notice to the webhook too."""


class Answer(Record):
    """The host, versions and definitions of the process that took a probe."""

    host: str
    libraries: dict[str, str]
    """Versions of libraries that a model file may depend on."""
    definitions: list[str]
    sources: Annotated[dict[str, Sha256], Field(exclude_if=lambda sources: not sources)] = Field(default_factory=dict)
    """Digests of the code of the definitions that it can import; empty on a queue that uses no models."""
    left_out: Annotated[dict[str, str], Field(exclude_if=lambda names: not names)] = Field(default_factory=dict)
    """Definitions that kill or hang the process that imports them, each with the failure. Sent only if there are any: earlier versions
    do not know the field."""
    webhook: Annotated[str, Field(max_length=LONGEST_REASON)] | None = None
    """Empty when the webhook accepted the message, else the reason; None when it was not tried."""
    version: Annotated[str, Field(max_length=100, exclude_if=lambda version: not version)] = ""
    """The version of its code; empty from an earlier version, which does not send it."""
    bucket: Annotated[str, Field(max_length=1000, exclude_if=lambda bucket: not bucket)] = ""
    """The address of its bucket."""
    sees_bucket: Annotated[bool | None, Field(exclude_if=lambda sees: sees is None)] = None
    """True when the file of this probe is in its bucket; False when it uses another bucket."""


def probe_file(probe: Probe) -> str:
    """Path of a file that the asking process writes to the bucket, so that the answering process can check that it uses the same one."""
    return f"doctor/{probe.token}"


def write_answer(client: redis.Redis, probe: Probe, queue: str, answer: Answer) -> None:
    """Writes the answer for one queue; raises redis.RedisError."""
    with client.pipeline(transaction=True) as pipe:
        pipe.hset(_key(probe), queue, answer.to_json())
        pipe.expire(_key(probe), KEPT_SECONDS)
        pipe.execute()


def read_answers(client: redis.Redis, probe: Probe) -> dict[str, Answer]:
    """The answers so far, by queue; raises redis.RedisError."""
    found = {}
    for queue, text in client.hgetall(_key(probe)).items():
        try:
            found[queue.decode() if isinstance(queue, bytes) else queue] = decode(Answer, text)
        except MessageError:  # of another version: any answer proves that the queue is served
            found[queue.decode() if isinstance(queue, bytes) else queue] = Answer(host="", libraries={}, definitions=[])
    return found


def _key(probe: Probe) -> str:
    return f"scoring:canary:{probe.token}"
