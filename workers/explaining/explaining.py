"""Answers a question about a rate: finds its row, and splits its change since an earlier result."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from model_store.contributing import ContributionsError
from model_store.library import ModelLibrary
from model_store.predicting import columns_for
from model_store.store import Release
from shared.bucket.interface import Bucket
from shared.errors import PermanentError
from shared.guard.explanation import ExplainedRow, Explanation, Question, RowState, Split
from workers.explaining.rejected_rows import find_reject
from workers.explaining.results import KeyValues, OpenResult, key_values, key_words, open_result
from workers.explaining.splitting import OtherRateError, RatesBefore, check_rate, history_of, rates_of, split_change
from workers.explaining.table_rows import NoRowError, TableRow

Enter = Callable[[str], None]


def explain(bucket: Bucket, library: ModelLibrary, question: Question, *, enter: Enter = lambda _: None) -> Explanation:
    """Returns where a rate comes from, and why it is another one than in the earlier result.

    Args:
        bucket: the bucket.
        library: loads the releases.
        question: the row, and the two results.
        enter: called with each release before its code runs.

    Raises:
        RequestError: there is no such result, or no such key.
        UnreadableIndexError: the index and the predictions of a result are damaged.
    """
    now = open_result(bucket, question.job_id)
    values = key_values(now.manifest, question.keys)
    notes: list[str] = []
    row, known = find_row(now, values, notes)
    found = Explanation(keys=key_words(now.manifest, values), now=row, notes=notes)
    if question.against is None:
        return found.model_copy(update={"why_not": f"there is no earlier result to compare the result of job {question.job_id} with"})
    before = open_result(bucket, question.against)
    if before.index.keys != now.index.keys:
        return found.model_copy(update={"why_not": f"rows of the result of job {question.against} have other keys, {_names(before)}"})
    old_row, old_known = find_row(before, values, notes)
    found = found.model_copy(update={"before": old_row})
    if known is None or old_known is None or row.rate is None or old_row.rate is None:
        missing = row if known is None else old_row
        return found.model_copy(update={"why_not": f"in the result of job {missing.job_id} the row is {missing.state}"})
    loader = _Loader(library=library, enter=enter)
    split, why_not = _Comparison(old=old_known, new=known, old_row=old_row, new_row=row, loader=loader, notes=notes).split()
    return found.model_copy(update={"change": row.rate - old_row.rate, "split": split, "why_not": why_not, "notes": notes})


def _names(result: OpenResult) -> str:
    return ", ".join(result.index.keys)


def find_row(result: OpenResult, values: KeyValues, notes: list[str]) -> tuple[ExplainedRow, TableRow | None]:
    """Returns the row of a key in a result, and how to read it from its table; None if it was not scored."""
    found = result.lookup(values)
    row = _facts(result)
    decision = result.decision
    if decision is not None and decision.verdict == "refused":
        notes.append(f"the result of job {row.job_id} was refused by {decision.by}: {decision.reason}")
    if not len(found):
        return _missing(result, values, row, notes), None
    if len(found) > 1:
        notes.append(f"{len(found):,} rows of the result of job {row.job_id} have this key; the first one is explained")
    file, line = result.file_of(found, 0), int(found.line[0])
    planned = result.chunk_at(file, line) if file is not None and line > 0 else None
    low, high = (float(bound[0]) for bound in found.bounds) if found.bounds else (None, None)
    row = row.model_copy(
        update={
            "state": RowState.SCORED,
            "rate": float(found.cr[0]),
            "low": low,
            "high": high,
            "clicks": None if found.clicks is None else float(found.clicks[0]),
            "file": file,
            "line": line if line > 0 else None,
            "chunk": None if planned is None else planned.index,
            "rows": len(found),
        }
    )
    return row, TableRow(result=result, values=values, digest=np.array(found.digest[0]), file=file, line=line)


def _facts(result: OpenResult) -> ExplainedRow:
    manifest = result.manifest
    return ExplainedRow(
        state=RowState.ABSENT,
        job_id=manifest.job_id,
        release=manifest.release,
        result=manifest.revision,
        table=manifest.table.path,
        finished=manifest.finished,
        is_held=result.is_held,
    )


def _missing(result: OpenResult, values: KeyValues, row: ExplainedRow, notes: list[str]) -> ExplainedRow:
    search = find_reject(result, values)
    if search.note:
        notes.append(f"in the result of job {row.job_id} the row was not found; {search.note}")
    if search.found is None:
        return row.model_copy(update={"may_be_rejected": bool(search.note)})
    found, reject = search.found, search.found.reject
    where = f"column {reject.column}: {reject.value!r} is {reject.reason}" if reject.column else reject.reason
    more = {"state": RowState.REJECTED, "file": found.file, "line": reject.line, "chunk": found.chunk, "reason": where}
    return row.model_copy(update=more)


@dataclass(frozen=True, kw_only=True)
class _Loader:
    """Loads releases, and says so before."""

    library: ModelLibrary
    enter: Enter

    def load(self, release: str) -> Release:
        """Returns a loaded release; raises ModelError."""
        self.enter(release)
        return self.library.release(release)


@dataclass(frozen=True, kw_only=True)
class _Comparison:
    """The same row in two results."""

    old: TableRow
    new: TableRow
    old_row: ExplainedRow
    new_row: ExplainedRow
    loader: _Loader
    notes: list[str] = field(default_factory=list)

    def split(self) -> tuple[Split | None, str]:
        """Returns the parts of the change, or the reason why there are none."""
        rate, rate_before = self.new_row.rate, self.old_row.rate
        if rate is None or rate_before is None:
            return None, "a rate is unknown"
        try:
            release = self.loader.load(self.new_row.release)
            rows = pd.concat([row.read(release.manifest.columns) for row in (self.old, self.new)], ignore_index=True)
            before = RatesBefore(rate=rate_before, reasons=self._history_before(release, rate_before))
            self.loader.enter(self.new_row.release)
            split, notes = split_change(release, rows, before, rate, self.new_row.table)
        except (NoRowError, OtherRateError) as error:
            return None, str(error)
        except PermanentError as error:
            return None, error.message
        self.notes.extend(notes)
        return split, ""

    def _history_before(self, new: Release, rate_before: float) -> dict[str, float] | None:
        """Returns what the old release added for the history of the keyword; None if it cannot be asked."""
        try:
            old = new if self.old_row.release == self.new_row.release else self.loader.load(self.old_row.release)
            frame = columns_for(old.definition, [column.name for column in old.manifest.columns], self.old.read(old.manifest.columns))
            self.notes.extend(check_rate(old, rates_of(old, frame, self.old_row.table)[0], rate_before))
            return history_of(old, frame, self.old_row.table)
        except (PermanentError, ContributionsError) as error:
            self.notes.append(error.message if isinstance(error, PermanentError) else str(error))
            return None
