"""Chooses the notifier of a webhook."""

import urllib.parse
from typing import Protocol

from shared.settings import WebhookFormat
from workers.notices.identified_notice import IdentifiedNotice
from workers.notices.json_events import JsonEvents
from workers.notices.slack import Slack
from workers.notices.teams import Teams

TEAMS_HOSTS = (".webhook.office.com", ".logic.azure.com", ".powerplatform.com")
"""Domain suffixes of Teams workflows, and of the connectors before them."""


class Notifier(Protocol):
    """Delivers notices to people or programs."""

    def deliver(self, notice: IdentifiedNotice) -> None:
        """Delivers one notice within 5 seconds; raises NoticeError if it was not accepted."""


KINDS: dict[WebhookFormat, type[Slack] | type[Teams] | type[JsonEvents]] = {"slack": Slack, "teams": Teams, "json": JsonEvents}


def choose_notifier(url: str, form: WebhookFormat | None = None) -> Notifier | None:
    """Returns the notifier of this format, by default the one that the host of the address expects; None without an address."""
    if not url:
        return None
    return KINDS[form or guess_format(url)](url)


def guess_format(url: str) -> WebhookFormat:
    """Returns the format that the host of a webhook expects: Slack's, unless the host belongs to Teams."""
    try:
        host = urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return "slack"
    return "teams" if host.rstrip(".").endswith(TEAMS_HOSTS) else "slack"
