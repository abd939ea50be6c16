"""Every error that this product raises on purpose, branched by what the caller does next.

    ScoringError
    ├── PermanentError          a retry gives the same answer: the job fails, a person must act
    │   ├── RequestError        the request makes no sense                   exit code 2
    │   │   ├── MessageError    a message or job file does not decode
    │   │   │   └── StaleMessageError   a message that does not fit its job: it is dropped, the job continues
    │   │   ├── SettingsError   an environment variable has an unusable value
    │   │   └── UnreadableChannelError   the file of a channel is damaged: its result is unknown
    │   ├── TableError          a table cannot be read, or lacks what the release needs   exit code 3
    │   │   ├── NoTableError    nothing at this path could be a table: other paths are tried
    │   │   └── UnreadableIndexError   the index of a result is missing or damaged: it is built again from the result
    │   ├── ModelError          a definition or release is unknown, broken or foreign      exit code 4
    │   │   └── UnreadableAliasError   the file of an alias is damaged: its release is unknown
    │   ├── JobFailedError      the job that was followed ended in failure                 exit code 5
    │   └── HeldError           the result of the job is held back from its channel        exit code 7
    └── TransientError          the same call may succeed in a moment: it is retried   exit code 6
        ├── BrokerError         Redis does not answer
        ├── BucketError         the bucket does not answer, is full, or cannot be written
        └── OutputError         what a command prints cannot be written

The message is one sentence: what is wrong and where. ``next_step`` is what to do about it, with the command to type.
"""


class ScoringError(Exception):
    """The base of all errors of this product; ``str()`` gives the message and the next step."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}. {self.next_step}" if self.next_step else self.message


class PermanentError(ScoringError):
    """An error that a retry would repeat: a person must change something first."""


class RequestError(PermanentError):
    """Raised when a request contradicts itself or names something impossible."""

    exit_code = 2


class MessageError(RequestError):
    """Raised by ``decode`` when a message or a job file is malformed or of an unknown format."""

    def __init__(self, message: str, *, next_step: str = "", field: str = "", value: object = None) -> None:
        super().__init__(message, next_step=next_step)
        self.field = field
        """The wrong field; empty when no single field is wrong."""
        self.value = value


class StaleMessageError(MessageError):
    """Raised when a message asks for a step that its job does not have; a stray message must not end a good job."""


class SettingsError(RequestError):
    """Raised at start when an environment variable holds an unusable value."""


class UnreadableChannelError(RequestError):
    """Raised when the file of a channel is damaged or of a later version, so that its result is unknown."""


class TableError(PermanentError):
    """Raised when a table cannot be read, lacks a needed column, or has too many rows that cannot be scored."""

    exit_code = 3


class NoTableError(TableError):
    """Raised when nothing at a path could be a table; the table may be at another path."""


class UnreadableIndexError(TableError):
    """Raised when the index of a result is missing, damaged or of another result; it can be built again from the predictions."""


class ModelError(PermanentError):
    """Raised when a definition or a release is unknown, incomplete, changed, or made elsewhere."""

    exit_code = 4


class UnreadableAliasError(ModelError):
    """Raised when the file of an alias is damaged or of a later version, so that its release is unknown."""


class JobFailedError(PermanentError):
    """Raised by a command that follows a job when the job fails or is cancelled."""

    exit_code = 5


class HeldError(PermanentError):
    """Raised by a command that follows a job when the result is held: a person approves or refuses it."""

    exit_code = 7


class TransientError(ScoringError):
    """Raised when the same call may succeed in a moment; the only kind of error that is retried."""

    exit_code = 6


class BrokerError(TransientError):
    """Raised when Redis does not answer or refuses the command."""


class BucketError(TransientError):
    """Raised when the bucket does not answer, is full, or cannot be written."""


class OutputError(TransientError):
    """Raised when the output of a command cannot be written, such as to a file on a full disk."""
