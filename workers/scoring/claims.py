"""Decides whether a channel may show the result of a job now. No other module does, and nothing here reads or writes a file."""

from dataclasses import dataclass
from enum import StrEnum

from shared.catalog.channels import ChannelChange
from shared.catalog.held import Decision
from shared.guard.verdict import GuardVerdict


class Standing(StrEnum):
    """The standing of a result before its channel."""

    NEXT = "next"
    """The channel may show it."""
    SHOWN = "shown"
    """The channel shows it, or has shown it since it was compared: nothing is left to decide."""
    OVERTAKEN = "overtaken"
    """The channel shows the result of a newer table: the result is published at its place alone."""
    OUTDATED = "outdated"
    """It must be decided once more: the channel was changed since it was compared, or the guard, a pin or a person holds it."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """What speaks for and against a result."""

    revision: str
    age: str
    """The job that first scored the table of the result (``ChannelChange.age``)."""
    verdict: GuardVerdict | None
    decision: Decision | None
    was_shown: bool
    """True if the channel has shown the result, through its finish step, since it was compared."""

    @property
    def approval(self) -> Decision | None:
        """The decision, if it is an approval."""
        return self.decision if self.decision is not None and self.decision.verdict == "approved" else None


def number_of(now: ChannelChange | None) -> int:
    """Returns the number of the newest change of a channel; 0 without any."""
    return 0 if now is None else now.number


def standing(claim: Claim, now: ChannelChange | None) -> Standing:
    """Returns the standing of a result before a channel with this newest change."""
    if claim.was_shown or (now is not None and now.revision == claim.revision):
        return Standing.SHOWN
    verdict, decision, approval = claim.verdict, claim.decision, claim.approval
    is_overtaken = now is not None and now.age > claim.age and decision is None
    if verdict is None:
        return Standing.OVERTAKEN if is_overtaken else Standing.OUTDATED
    is_compared = verdict.compared_with == number_of(now)
    if approval is not None and is_compared and approval.compared_with == verdict.compared_with:
        return Standing.NEXT
    if verdict.holds or (decision is not None and approval is None):
        return Standing.OUTDATED
    if is_overtaken:
        return Standing.OVERTAKEN
    is_pinned = now is not None and now.pinned
    return Standing.NEXT if is_compared and not is_pinned else Standing.OUTDATED
