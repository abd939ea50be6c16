"""The way to people: one message to a Slack webhook, which may be down, slow or hostile and is waited for no longer than it is told here.

A try takes five seconds at most, reads a few hundred bytes, follows no redirect and speaks nothing but HTTP and HTTPS. slack-sdk's client
can do none of that. After a try that failed the webhook rests: no process asks it again until the mark in Redis is gone.
"""

import bisect
import itertools
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from shared.jobs.messages import Notice
from shared.text.plain import plain
from workers.notices.deadline_post import ask_in_time
from workers.notices.resting import NoticeError, rest_seconds

SHOWN_LENGTH = 100
SHORT_LENGTH = 40
"""Values up to this length stand side by side."""
LONGEST_TITLE, LONGEST_TEXT = 500, 2000
"""Characters, escapes counted: an error may quote a whole row, and Slack refuses messages that are too long."""
CUT = "..."
ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
SHORTEST_SECRET = 6
"""A shorter piece of an address gives nothing away."""

GOOD, BAD = "#2eb67d", "#e01e5a"


def post(notice: Notice, webhook_url: str) -> None:
    """One message to a Slack webhook.

    Raises:
        NoticeError: it was not taken, or not within the time; the text never holds the address, which is a secret.
    """
    answer = ask_in_time(webhook_url, json.dumps(payload(notice)).encode())
    # a page that greets whoever comes answers 200 as well, but not with Slack's word for it
    if answer.status != 200 or answer.text.strip() != "ok":
        shown = _without_address(answer.text, webhook_url)[:SHOWN_LENGTH]
        raise NoticeError(f"it answered {answer.status} {shown!r}", rest_seconds=rest_seconds(answer.retry_after))


def payload(notice: Notice) -> dict[str, Any]:
    """The message as Slack takes it; nothing that a table or a name holds becomes a mention, a link or markup of it."""
    fields = [
        {"title": escaped(name, LONGEST_TITLE), "value": escaped(value, LONGEST_TEXT), "short": len(value) < SHORT_LENGTH}
        for name, value in notice.facts.items()
    ]
    title, footer = escaped(notice.title, LONGEST_TITLE), escaped(notice.next_step, LONGEST_TEXT)
    attachment = {"color": GOOD if notice.good else BAD, "fields": fields, "footer": footer, "fallback": title, "mrkdwn_in": []}
    as_it_stands = {"parse": "none", "link_names": False, "mrkdwn": False, "unfurl_links": False, "unfurl_media": False}
    return {"text": title, "attachments": [attachment], **as_it_stands}


def escaped(text: str, longest: int) -> str:
    """The text with Slack's three special characters escaped, and cut to so many characters then, between two of its own.

    https://docs.slack.dev/messaging/formatting-message-text#escaping
    """
    pieces = [ENTITIES.get(character, character) for character in plain(text, lines=True)]
    lengths = list(itertools.accumulate(map(len, pieces)))
    if not lengths or lengths[-1] <= longest:
        return "".join(pieces)
    return "".join(pieces[: bisect.bisect_right(lengths, longest - len(CUT))]) + CUT


def _without_address(text: str, url: str) -> str:
    """A server may quote what it was asked for, and that is the secret."""
    address = urllib.parse.urlsplit(url)
    for part in sorted({address.path, address.query, *address.path.split("/"), *address.query.split("&")}, key=len, reverse=True):
        if len(part) >= SHORTEST_SECRET:
            text = text.replace(part, "...")
    return text
