"""Failure reasons of jobs whose step killed its process: which step or release, the most likely cause, and the next command."""

from shared.errors import JobFailedError, ModelError, PermanentError
from shared.jobs.folder import JobFolder
from shared.jobs.messages import ChunkMessage
from shared.memory_limit import describe_memory
from workers.recovery.attempts import Attempt
from workers.scoring.chunks.chunk import ChunkStage


def crashed_step(what: str, attempt: Attempt) -> PermanentError:
    """Returns the error for a step of a whole job, described by ``what``, that killed its process repeatedly."""
    return JobFailedError(f"{what} {_fate(attempt)}", next_step=_advice(attempt))


def crashed_chunk(message: ChunkMessage, release: str, attempt: Attempt) -> PermanentError:
    """Returns the error for a chunk that killed its process outside of scoring rows, so that no row is at fault."""
    doing = attempt.last.doing if attempt.last else ""
    if doing == ChunkStage.LOADING:
        return crashed_loader(release, attempt)
    return JobFailedError(f"chunk {message.index} {_fate(attempt, doing)}", next_step=_advice(attempt))


def crashed_loader(release: str, attempt: Attempt) -> ModelError:
    """Returns the error for a release that killed or hung the processes that loaded it."""
    definition = release.partition("@")[0]
    return ModelError(
        f"the release {release} kills or hangs the process that loads it: it {_fate(attempt)}",
        next_step=f"Try its definition with: scoring models check {definition}. {_advice(attempt)}",
    )


def out_of_memory(what: str, folder: JobFolder) -> PermanentError:
    """Returns the error for a step whose memory allocation failed."""
    return JobFailedError(f"{what} ran out of memory: its process may use {describe_memory()}", next_step=_more_memory(folder))


def left_the_process(what: str, error: BaseException) -> PermanentError:
    """Returns the error for a step in which the definition's code tried to end the process, as ``sys.exit`` does."""
    return ModelError(
        f"{what} tried to end its process with {error!r}, which the definition's code must not do",
        next_step="Find the line with: scoring models check NAME",
    )


def took_too_long(what: str, folder: JobFolder, seconds: float) -> PermanentError:
    """Returns the error for a step of a whole job that reached its time limit and would take as long again."""
    return JobFailedError(f"{what} took longer than {seconds:g} seconds", next_step=_more_memory(folder))


def _fate(attempt: Attempt, doing: str = "") -> str:
    """Describes how its process ended, how often, and the most likely cause."""
    last = attempt.last
    where = f", the last time while {doing}" if doing else ""
    if last is not None and last.ran_out_of_time:
        return f"did not end within its time or killed its process {attempt.crashes} times in a row{where}"
    if attempt.exit_code is not None:
        return f"ended its process with exit code {attempt.exit_code}, {attempt.crashes} times in a row{where}"
    had = last.had if last is not None and last.had else describe_memory()
    return f"killed its process {attempt.crashes} times in a row{where}; most likely memory, of which the process had {had}"


def _advice(attempt: Attempt) -> str:
    if attempt.exit_code is None:
        return _more_memory(attempt.folder)
    return f"Remove what ends the process, such as os._exit, then go on with: scoring jobs resume {attempt.folder.job_id}"


def _more_memory(folder: JobFolder) -> str:
    return f"Give the workers more memory or fewer processes, then go on with: scoring jobs resume {folder.job_id}"
