"""Notices for a Microsoft Teams workflow that posts to a channel when a webhook request is received: an Adaptive Card in a message.

https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
"""

import itertools
import json
from typing import Any

from shared.jobs.messages import Notice
from shared.text.numbered import in_lines
from workers.notices.deadline_post import Post, send
from workers.notices.text import LONGEST_TEXT, LONGEST_TITLE, shorten

ACCEPTED = (200, 202)
CARD = "application/vnd.microsoft.card.adaptive"
LARGEST_BYTES = 24_000
"""Teams rejects messages of more than 28 KB."""
TEXT_LENGTHS = (LONGEST_TEXT, 500, 100, 40, 10)
"""Text lengths that are tried until the message is small enough; the last one always is."""
MOST_FACTS = 30

GOOD, BAD = "good", "attention"


class Teams:
    """Delivers notices to the URL of a Teams workflow."""

    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, notice: Notice) -> None:
        """Sends one message; raises NoticeError if it was not accepted."""
        answer = send(Post(url=self._url, body=_encode(notice), content_type="application/json"))
        if answer.status not in ACCEPTED:
            raise answer.refusal(self._url)


def payload(notice: Notice, longest: int = LONGEST_TEXT) -> dict[str, Any]:
    """Returns the message; text of a notice is in TextRuns only, and is shortened to ``longest`` characters.

    TextBlock and Fact render Markdown (https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/cards-format),
    TextRun does not (https://adaptivecards.io/explorer/TextRun.html). A mention needs an entity in ``msteams``, and there is none.
    """
    title = _run(notice.title, min(longest, LONGEST_TITLE), weight="bolder", size="medium", color=GOOD if notice.good else BAD)
    facts = [block for name, value in itertools.islice(notice.facts.items(), MOST_FACTS) for block in _fact(name, value, longest)]
    next_step = [_block(_run(notice.next_step, longest, isSubtle=True))] if notice.next_step else []
    card = {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.4",
        "msteams": {"width": "Full"},
        "body": [_block(title), *facts, *next_step],
    }
    return {"type": "message", "attachments": [{"contentType": CARD, "contentUrl": None, "content": card}]}


def _fact(name: str, value: str, longest: int) -> list[dict[str, Any]]:
    """Returns the blocks of a fact, one for each of its numbered sentences; together their text has at most ``longest`` characters."""
    first, *others = in_lines(shorten(value, longest))
    heading = _run(f"{name}: ", min(longest, LONGEST_TITLE), weight="bolder")
    return [_block(heading, _run(first, longest)), *(_block(_run(line, longest)) for line in others)]


def _block(*runs: dict[str, Any]) -> dict[str, Any]:
    return {"type": "RichTextBlock", "inlines": [*runs], "spacing": "small"}


def _run(text: str, longest: int, **looks: str | bool) -> dict[str, Any]:
    return {"type": "TextRun", "text": shorten(text, longest), **looks}


def _encode(notice: Notice) -> bytes:
    bodies = (json.dumps(payload(notice, longest)).encode() for longest in TEXT_LENGTHS)
    return next(body for body in bodies if len(body) <= LARGEST_BYTES)
