"""The files of a search in the folder of its job: the plan, the rounds, and a record per candidate and fold."""

import math
import re
from collections.abc import Sequence

from shared.errors import MessageError, StaleMessageError
from shared.jobs.files import JobFile, Subfolder
from shared.jobs.folder import JobFolder
from shared.jobs.messages import CandidateMessage
from shared.records import decode_long
from workers.concurrency import read_each
from workers.training.search.folds import BLOCKS
from workers.training.search.rounds import FoldRecord, Records, SearchPlan, SearchRound, Trial

_RECORD = re.compile(r"(\d+)\.(\d+)\.json")


def read_search_plan(folder: JobFolder) -> SearchPlan | None:
    """Returns the plan of the search of a job; None before it is fixed."""
    text = folder.bucket.read(folder.file(JobFile.SEARCH))
    return None if text is None else decode_long(SearchPlan, text)


def search_plan_of(folder: JobFolder) -> SearchPlan:
    """Returns the plan of the search of a job; raises StaleMessageError if it has none."""
    plan = read_search_plan(folder)
    if plan is None:
        raise StaleMessageError(f"job {folder.job_id} searches for nothing")
    return plan


def round_file(folder: JobFolder, number: int) -> str:
    """Returns the path of the file of a round."""
    return folder.file(f"{Subfolder.WAVES}/{number:04d}.json")


def read_rounds(folder: JobFolder) -> list[SearchRound]:
    """Returns all rounds of a search so far, in order."""
    return [_round_at(folder, info.path) for info in folder.bucket.files(folder.file(Subfolder.WAVES))]


def _round_at(folder: JobFolder, path: str) -> SearchRound:
    return decode_long(SearchRound, folder.bucket.read(path) or b"")


def find_trial(folder: JobFolder, candidate: int, fold: int) -> Trial:
    """Returns the trial of a candidate on a fold; raises StaleMessageError if no round has it."""
    for this_round in read_rounds(folder):
        for trial in this_round.candidates:
            if (trial.number, this_round.fold) == (candidate, fold):
                return trial
    raise StaleMessageError(f"job {folder.job_id} does not try a candidate {candidate} on a fold {fold}")


def _record_file(folder: JobFolder, candidate: int, fold: int) -> str:
    return folder.file(f"{Subfolder.CANDIDATES}/{candidate:04d}.{fold:02d}.json")


def _present_records(folder: JobFolder) -> set[tuple[int, int]]:
    names = (_RECORD.fullmatch(info.path.rpartition("/")[2]) for info in folder.bucket.files(folder.file(Subfolder.CANDIDATES)))
    return {(int(name[1]), int(name[2])) for name in names if name}


def missing_candidates(folder: JobFolder, rounds: Sequence[SearchRound]) -> list[CandidateMessage]:
    """Returns the messages of the trials that have no record."""
    there = _present_records(folder) if rounds else set()
    return [
        CandidateMessage(job_id=folder.job_id, candidate=trial.number, fold=this_round.fold)
        for this_round in rounds
        for trial in this_round.candidates
        if (trial.number, this_round.fold) not in there
    ]


def read_record(folder: JobFolder, candidate: int, fold: int) -> FoldRecord | None:
    """Returns the record of a candidate on a fold; None if it does not exist or is broken."""
    text = folder.bucket.read(_record_file(folder, candidate, fold))
    try:
        record = None if text is None else decode_long(FoldRecord, text)
    except MessageError:
        record = None
    sound = record and (record.candidate, record.fold) == (candidate, fold) and _adds_up(record)
    return record if sound else None


def _adds_up(record: FoldRecord) -> bool:
    values = [*record.losses, *record.clicks]
    whole = len(record.losses) == len(record.clicks) == BLOCKS and all(map(math.isfinite, values)) and sum(record.clicks) > 0
    return bool(record.failed) or whole


def read_records(folder: JobFolder, rounds: Sequence[SearchRound]) -> Records | None:
    """Returns the records of these rounds; None when one was broken, which is then deleted, so that its step runs again."""
    there = _present_records(folder)
    wanted = [key for this_round in rounds for trial in this_round.candidates if (key := (trial.number, this_round.fold)) in there]
    records: dict[tuple[int, int], FoldRecord] = {}
    for key, record in zip(wanted, read_each(folder.bucket, lambda key: read_record(folder, *key), wanted), strict=True):
        if record is None:
            folder.bucket.delete(_record_file(folder, *key))
            return None
        records[key] = record
    return records


def write_record(folder: JobFolder, record: FoldRecord) -> FoldRecord:
    """Writes a record and returns it, or the existing record if another process was first."""
    path = _record_file(folder, record.candidate, record.fold)
    if not folder.bucket.create(path, record.to_json()):
        return read_record(folder, record.candidate, record.fold) or record
    return record
