"""Notices for programs: one CloudEvents 1.0 event in the structured JSON format.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

import json
from datetime import UTC
from typing import Any

from workers.notices.deadline_post import Post, send
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.text import LONGEST_TEXT, LONGEST_TITLE, shorten

CONTENT_TYPE = "application/cloudevents+json"
SOURCE = "/keyword-scoring"
JOB_ENDED, OTHER = "keyword-scoring.job.ended", "keyword-scoring.notice"


class JsonEvents:
    """Delivers notices as CloudEvents to any HTTP server."""

    def __init__(self, url: str) -> None:
        self._url = url

    def deliver(self, notice: IdentifiedNotice) -> None:
        """Sends one event; raises NoticeError if it was not accepted."""
        answer = send(Post(url=self._url, body=json.dumps(payload(notice)).encode(), content_type=CONTENT_TYPE))
        if not 200 <= answer.status < 300:
            raise answer.refusal(self._url)


def payload(notice: IdentifiedNotice) -> dict[str, Any]:
    """Returns the event; its id is the same in every try, so that a receiver can drop a second delivery."""
    data = {
        "good": notice.good,
        "title": shorten(notice.title, LONGEST_TITLE),
        "facts": {shorten(name, LONGEST_TITLE): shorten(value, LONGEST_TEXT) for name, value in notice.facts.items()},
        "next_step": shorten(notice.next_step, LONGEST_TEXT),
    }
    return {
        "specversion": "1.0",
        "id": notice.id,
        "source": SOURCE,
        "type": JOB_ENDED if notice.job_id else OTHER,
        **({"subject": notice.job_id} if notice.job_id else {}),
        "time": notice.at.astimezone(UTC).isoformat(),
        "datacontenttype": "application/json",
        "data": data | ({"job_id": notice.job_id} if notice.job_id else {}),
    }
