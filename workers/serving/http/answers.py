"""Answers: bytes with a status, and the errors that become one."""

from typing import Any, NamedTuple

import orjson

JSON = b"application/json"
Header = tuple[bytes, bytes]


class Answer(NamedTuple):
    """A complete answer to a request."""

    body: bytes
    status: int = 200
    headers: tuple[Header, ...] = ()
    content_type: bytes = JSON


class HttpError(Exception):
    """Raised by a route to refuse a request; the message is one sentence without any detail of this machine."""

    def __init__(self, status: int, message: str, *, next_step: str = "", headers: tuple[Header, ...] = ()) -> None:
        super().__init__(message)
        self.status, self.message, self.next_step, self.headers = status, message, next_step, headers

    @property
    def answer(self) -> Answer:
        """The answer for the client."""
        return error_answer(self.status, self.message, self.next_step, self.headers)


def error_answer(status: int, message: str, next_step: str = "", headers: tuple[Header, ...] = ()) -> Answer:
    """Returns the answer for an error: ``{"error": ..., "next_step": ...}``."""
    fields = {"error": message} | ({"next_step": next_step} if next_step else {})
    return Answer(orjson.dumps(fields), status, headers)


def json_answer(value: Any, status: int = 200, headers: tuple[Header, ...] = ()) -> Answer:  # noqa: ANN401 - whatever JSON may hold
    """Returns a value as JSON."""
    return Answer(orjson.dumps(value), status, headers)


def read_json(body: bytes) -> Any:  # noqa: ANN401 - whatever JSON may hold
    """Parses the body of a request; raises HttpError (400) if it is no JSON."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        place = f" at character {error.pos}" if error.pos else ""
        raise HttpError(400, f"the body is not JSON{place}: {error.msg.partition(': line')[0]}") from None


def read_object(body: bytes) -> dict[str, Any]:
    """Parses the body of a request, which must be an object; raises HttpError (400 or 422)."""
    value = read_json(body)
    if not isinstance(value, dict):
        raise HttpError(422, "the body must be a JSON object")
    return value
