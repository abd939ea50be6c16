"""The rejects of an ended job, by chunk."""

import csv
import functools
import hashlib
import io
from dataclasses import dataclass

from shared.catalog.manifests import REJECTS, ResultManifest
from shared.errors import TableError
from shared.jobs.files import JobFile, PartFile
from shared.jobs.folder import JobFolder
from shared.records import decode_long
from workers.scoring.fixes.files import chunk_finder
from workers.scoring.parts import BrokenPartError, read_file, read_part
from workers.scoring.plan import Plan
from workers.tables import output
from workers.tables import rows as table_rows


@dataclass(frozen=True, kw_only=True, eq=False)
class RejectsOfJob:
    """The rejects of an ended job: from its parts, or from its result if the parts were removed."""

    earlier: JobFolder
    plan: Plan

    def of_chunk(self, index: int) -> list[table_rows.Reject]:
        """Returns the rejects of one chunk; raises TableError when they are damaged."""
        part = read_part(self.earlier, index)
        if part is None:
            return self._in_result.get(index, [])
        if part.rejects is None:
            return []
        try:
            return output.read_rejects(output.decompress(read_file(self.earlier, index, PartFile.REJECTED, part.rejects)))
        except BrokenPartError as error:
            raise damaged(f"the rejects of chunk {index} of job {self.earlier.job_id}") from error

    @functools.cached_property
    def _in_result(self) -> dict[int, list[table_rows.Reject]]:
        """Maps each chunk to its rejects, read from the result of the job."""
        text = self.earlier.bucket.read(self.earlier.file(JobFile.MANIFEST))
        manifest = None if text is None else decode_long(ResultManifest, text)
        if manifest is None or manifest.rejects is None:
            return {}
        data = self.earlier.bucket.read(f"{manifest.revision}/{REJECTS}") or b""
        if hashlib.sha256(data).hexdigest() != manifest.rejects.sha256:
            raise damaged(f"{manifest.revision}/{REJECTS}")
        chunk_of = chunk_finder(self.plan)
        found: dict[int, list[table_rows.Reject]] = {}
        records = csv.reader(io.StringIO(output.decompress(data).decode(), newline=""))
        next(records, None)
        for path, line, column, value, reason in records:
            index = chunk_of(path, int(line))
            if index is not None:
                found.setdefault(index, []).append(table_rows.Reject(line=int(line), column=column, value=value, reason=reason))
        return found


def damaged(what: str) -> TableError:
    return TableError(f"{what} are damaged", next_step="Correct the table itself and score it again.")
