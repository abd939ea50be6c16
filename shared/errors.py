"""Every error this product raises on purpose, branched by what the caller does next.

    ScoringError
    ├── PermanentError          trying again gives the same answer: the job fails, a person must act
    │   ├── RequestError        what was asked for makes no sense            exit code 2
    │   │   ├── MessageError    what came off the queue or a job folder does not decode
    │   │   │   └── StaleMessageError   an order that does not fit its job: it is dropped, the job goes on
    │   │   └── SettingsError   an environment variable has a value that cannot be used
    │   ├── TableError          a table cannot be read, or lacks what the release needs   exit code 3
    │   │   └── NoTableError    nothing at this path could be one: it is looked for elsewhere
    │   ├── ModelError          a definition or release is unknown, broken or foreign      exit code 4
    │   │   └── UnreadableAliasError   the file of a name is damaged: nobody can say what it means
    │   └── JobFailedError      the job that was followed ended in failure                 exit code 5
    └── TransientError          the same call may succeed in a moment: it is tried again   exit code 6
        ├── BrokerError         Redis does not answer
        ├── BucketError         the bucket does not answer, is full, or cannot be written
        └── OutputError         what a command prints cannot be written

The message is one sentence: what is wrong and where. ``next_step`` is what to do about it, with the command to type.
"""


class ScoringError(Exception):
    """Anything this product refuses or cannot do; ``str()`` gives the sentence and the next step."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}. {self.next_step}" if self.next_step else self.message


class PermanentError(ScoringError):
    """Trying again would give the same answer; raised when a person must change something first."""


class RequestError(PermanentError):
    """Raised when a request contradicts itself or names something that cannot be."""

    exit_code = 2


class MessageError(RequestError):
    """Raised by ``decode`` when a message or a job file is malformed or of an unknown format."""

    def __init__(self, message: str, *, next_step: str = "", field: str = "", value: object = None) -> None:
        super().__init__(message, next_step=next_step)
        self.field = field
        """The field that is wrong; empty where it is no single one."""
        self.value = value


class StaleMessageError(MessageError):
    """Raised when an order asks for a step that its job does not have; a stray message must not end a good job."""


class SettingsError(RequestError):
    """Raised at start when an environment variable holds a value that cannot be used."""


class TableError(PermanentError):
    """Raised when a table cannot be read, lacks a needed column, or has too many rows that cannot be scored."""

    exit_code = 3


class NoTableError(TableError):
    """Raised when nothing at a path could be a table; it may lie elsewhere."""


class ModelError(PermanentError):
    """Raised when a definition or a release is unknown, incomplete, changed, or from elsewhere."""

    exit_code = 4


class UnreadableAliasError(ModelError):
    """Raised when nobody can say which release a name means, since its file is damaged or of a later version."""


class JobFailedError(PermanentError):
    """Raised to the person who follows a job when that job ends failed or cancelled."""

    exit_code = 5


class TransientError(ScoringError):
    """Raised when the same call may succeed in a moment; the only kind of error that is tried again."""

    exit_code = 6


class BrokerError(TransientError):
    """Raised when Redis does not answer or refuses the command."""


class BucketError(TransientError):
    """Raised when the bucket does not answer, is full, or cannot be written."""


class OutputError(TransientError):
    """Raised when what a command prints cannot be written, such as into a file on a full disk."""
