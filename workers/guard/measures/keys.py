"""Counts the keys that were lost and that are new, in rows and in clicks."""

from dataclasses import dataclass, field

from shared.guard.weights import Tally
from shared.guard.windows import Window


@dataclass
class KeyCounts:
    """Keys of the base and of the new result; a repeated key counts once."""

    old: Tally = field(default_factory=Tally)
    lost: Tally = field(default_factory=Tally)
    new: Tally = field(default_factory=Tally)
    appeared: Tally = field(default_factory=Tally)

    def add(self, window: Window) -> None:
        """Counts the keys of a window; lost keys count their clicks in the base, new ones those in the new table."""
        old, new = window.old.clicks, window.new.clicks
        self.old.add(len(window.old), old)
        self.new.add(len(window.new), new)
        if window.pairs is not None:
            self.lost.add(len(window.lost), None if old is None else old[window.lost])
            self.appeared.add(len(window.appeared), None if new is None else new[window.appeared])
