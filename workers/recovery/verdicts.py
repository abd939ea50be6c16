"""How a job fails whose step killed its process: which step or release it was, most likely why, and what to type next."""

from shared.errors import JobFailedError, ModelError, PermanentError
from shared.jobs.folder import JobFolder, Stage
from shared.jobs.messages import ChunkOrder
from shared.memory_limit import describe_memory
from shared.queue.routes import SCORE_FINISH, SCORE_PLAN, TRAIN_CANDIDATE, TRAIN_FIT
from workers.recovery.attempts import Attempt
from workers.scoring.chunk import ChunkStage

WORK = {
    SCORE_PLAN: "cutting the table into chunks",
    SCORE_FINISH: "joining the parts and publishing the result",
    TRAIN_FIT: "training",
    TRAIN_CANDIDATE: "choosing the next candidates of the search",
}


def killed_step(task: str, attempt: Attempt) -> PermanentError:
    """The verdict on a step of a whole job that killed its process again and again."""
    return JobFailedError(f"{task} ({_work(task, attempt.folder)}) {_fate(attempt)}", next_step=_advice(attempt))


def killed_chunk(order: ChunkOrder, release: str, attempt: Attempt) -> PermanentError:
    """The verdict on a chunk that killed its process elsewhere than in scoring rows, so that no row can be at fault."""
    doing = attempt.last.doing if attempt.last else ""
    if doing == ChunkStage.LOADING:
        return killed_loader(release, attempt)
    return JobFailedError(f"chunk {order.index} {_fate(attempt, doing)}", next_step=_advice(attempt))


def killed_loader(release: str, attempt: Attempt) -> ModelError:
    """The verdict on a release that killed or hung the processes that loaded it."""
    definition = release.partition("@")[0]
    return ModelError(
        f"the release {release} kills or hangs the process that loads it: it {_fate(attempt)}",
        next_step=f"Try its definition with: scoring models check {definition}. {_advice(attempt)}",
    )


def out_of_memory(task: str, folder: JobFolder) -> PermanentError:
    """The verdict on a step that asked for more memory than there is and was refused it."""
    return JobFailedError(
        f"{task} ({_work(task, folder)}) ran out of memory: its process may use {describe_memory()}", next_step=_more_memory(folder)
    )


def left_the_process(task: str, folder: JobFolder, error: BaseException) -> PermanentError:
    """The verdict on a step in which something ended the process from within, as ``sys.exit`` does."""
    return ModelError(
        f"{task} ({_work(task, folder)}) was ended from within by {error!r}: the definition's code must not end its process",
        next_step="Find the line with: scoring models check NAME",
    )


def took_too_long(task: str, folder: JobFolder, seconds: float) -> PermanentError:
    """The verdict on a step of a whole job that was broken off at its time limit: it would take as long again."""
    return JobFailedError(f"{task} ({_work(task, folder)}) took longer than {seconds:g} seconds", next_step=_more_memory(folder))


def _work(task: str, folder: JobFolder) -> str:
    """What a step does, in words; of a training what it said last."""
    stage: Stage | None = folder.stage() if task == TRAIN_FIT else None
    return stage.text if stage else WORK.get(task, "a step of the job")


def _fate(attempt: Attempt, doing: str = "") -> str:
    """What became of its process, how often, and most likely why."""
    last = attempt.last
    where = f", the last time while {doing}" if doing else ""
    if last is not None and last.ran_out_of_time:
        return f"did not end within its time or killed its process {attempt.deaths} times in a row{where}"
    if attempt.exit_code is not None:
        return f"ended its process with exit code {attempt.exit_code}, {attempt.deaths} times in a row{where}"
    had = last.had if last is not None and last.had else describe_memory()
    return f"killed its process {attempt.deaths} times in a row{where}; most likely memory, of which the process had {had}"


def _advice(attempt: Attempt) -> str:
    if attempt.exit_code is None:
        return _more_memory(attempt.folder)
    return f"Remove what ends the process, such as os._exit, then go on with: scoring jobs resume {attempt.folder.job_id}"


def _more_memory(folder: JobFolder) -> str:
    return f"Give the workers more memory or fewer processes, then go on with: scoring jobs resume {folder.job_id}"
