"""Notices for a Slack webhook: one message with an attachment, answered ``ok``.

https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks
"""

import json
from typing import Any

from shared.jobs.messages import Notice
from shared.text.numbered import in_lines
from workers.notices.deadline_post import Post, send
from workers.notices.text import LONGEST_TEXT, LONGEST_TITLE, shorten

SHORT_LENGTH = 40
"""Values shorter than this are shown side by side."""
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}

GOOD, BAD = "#2eb67d", "#e01e5a"


class Slack:
    """Delivers notices to a Slack webhook."""

    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, notice: Notice) -> None:
        """Sends one message.

        Raises:
            NoticeError: it was not accepted in time; the message never contains the address, which is a secret.
        """
        answer = send(Post(url=self._url, body=json.dumps(payload(notice)).encode(), content_type="application/json"))
        # a login page also answers 200, but without Slack's `ok`
        if answer.status != 200 or answer.text.strip() != "ok":
            raise answer.refusal(self._url)


def payload(notice: Notice) -> dict[str, Any]:
    """Returns the message for Slack; no text from a table or a name becomes a mention, a link or markup.

    Numbered sentences have a line each.
    """
    fields = [
        {
            "title": escaped(name, LONGEST_TITLE),
            "value": escaped("\n".join(in_lines(value)), LONGEST_TEXT),
            "short": len(value) < SHORT_LENGTH,
        }
        for name, value in notice.facts.items()
    ]
    title, footer = escaped(notice.title, LONGEST_TITLE), escaped(notice.next_step, LONGEST_TEXT)
    attachment = {"color": GOOD if notice.good else BAD, "fields": fields, "footer": footer, "fallback": title, "mrkdwn_in": []}
    as_it_stands = {"parse": "none", "link_names": False, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
    return {"text": title, "attachments": [attachment], **as_it_stands}


def escaped(text: str, longest: int) -> str:
    """Returns the text with Slack's three special characters escaped, at most ``longest`` characters.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    return shorten(text, longest, ENTITIES)
