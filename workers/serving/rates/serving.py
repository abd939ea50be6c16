"""What one request is answered from: a release, the result of a channel, or both."""

from dataclasses import dataclass

from model_store.single_row import SingleRowPredictor
from model_store.store import Release
from shared.catalog.manifests import KEYS
from workers.serving.rates.published import PublishedResult
from workers.tables.json_rows import JsonRow, JsonRows
from workers.tables.plain_rows import PlainRows
from workers.tables.schema import ENTITY


@dataclass(frozen=True, kw_only=True)
class SingleRows:
    """Computes the rate of one row of numbers with a shipped definition, in a tenth of the time that a table of one row takes."""

    plain_rows: PlainRows
    predictor: SingleRowPredictor

    @staticmethod
    def of(release: Release) -> "SingleRows | None":
        """Returns it for a release; None if the release needs a table."""
        columns = release.manifest.columns
        if not PlainRows.can_read(columns, release.manifest.keys):
            return None
        binary = [column.name for column in columns if column.type == "binary"]
        predictor = SingleRowPredictor.of(release.definition, release.model, [column.name for column in columns], binary)
        return None if predictor is None else SingleRows(plain_rows=PlainRows(columns), predictor=predictor)

    def rate(self, row: JsonRow) -> float | None:
        """Returns the rate of a row; None if the row is to be checked as a table, with its sentence for what is wrong with it."""
        values = self.plain_rows.values(row)
        if values is None:
            return None
        try:
            return self.predictor.predict(row[ENTITY], values)
        except Exception:  # noqa: BLE001 - the definition is asked again with a table, and its error has a sentence there
            return None


@dataclass(frozen=True, kw_only=True)
class LoadedRelease:
    """A release that computes rates, with what is prepared once for it."""

    release: Release
    json_rows: JsonRows
    single_rows: SingleRows | None = None

    @staticmethod
    def of(release: Release) -> "LoadedRelease":
        """Returns a release with its columns prepared."""
        json_rows = JsonRows(release.manifest.columns, release.manifest.keys)
        return LoadedRelease(release=release, json_rows=json_rows, single_rows=SingleRows.of(release))

    @property
    def name(self) -> str:
        """The id of the release."""
        return self.release.manifest.release


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A release and a result that belong together. A request takes this object once, so an answer never mixes two states."""

    loaded: LoadedRelease | None = None
    published: PublishedResult | None = None
    has_looked: bool = False
    """False before the first look at the alias and the channel has ended."""
    lacks_result: bool = False
    """True while the channel shows a result, or cannot be read, and none is open: nobody knows then which rows are published."""

    @property
    def is_ready(self) -> bool:
        """True once there is something to answer from, and the result of the channel is part of it."""
        return self.has_looked and not self.lacks_result and (self.loaded is not None or self.published is not None)

    @property
    def why_not_computed(self) -> str:
        """Why a row that is not published is not computed unless the client asks for it; empty if it is.

        A release and a result with other key columns name other things: no rate of one can stand in for a rate of the other.
        """
        if self.loaded is None or self.published is None:
            return ""
        own, shown = self.loaded.release.manifest.keys, self.published.keys
        if {*own} == {*shown}:
            return ""
        return f"the release in use names rows by {', '.join(own)}, and the result by {', '.join(shown)}"

    @property
    def release(self) -> str:
        """The id of the release that computes rates; empty without one."""
        return "" if self.loaded is None else self.loaded.name

    @property
    def revision(self) -> str:
        """The folder of the published result; empty without one."""
        return "" if self.published is None else self.published.manifest.revision

    @property
    def keys(self) -> tuple[str, ...]:
        """The key columns of the published result, or else of the release."""
        if self.published is not None:
            return self.published.keys
        return KEYS if self.loaded is None else self.loaded.release.manifest.keys
