"""What one request is answered from: a release, the result of a channel, or both."""

from dataclasses import dataclass

from model_store.store import Release
from shared.catalog.manifests import KEYS
from workers.serving.rates.published import PublishedResult
from workers.tables.json_rows import JsonRows


@dataclass(frozen=True, kw_only=True)
class LoadedRelease:
    """A release that computes rates, with what is prepared once for it."""

    release: Release
    json_rows: JsonRows

    @staticmethod
    def of(release: Release) -> "LoadedRelease":
        """Returns a release with its columns prepared."""
        return LoadedRelease(release=release, json_rows=JsonRows(release.manifest.columns, release.manifest.keys))

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
