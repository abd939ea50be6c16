"""Chooses the notifier of a webhook."""

import urllib.parse
from typing import Protocol

from shared.settings import WebhookFormat
from workers.notices.event import Event
from workers.notices.json_events import JsonEvents
from workers.notices.slack import Slack
from workers.notices.teams import Teams

TEAMS_HOSTS = (".webhook.office.com", ".logic.azure.com", ".powerplatform.com")
"""Ends of the hosts of Teams workflows, and of the connectors before them."""


class Notifier(Protocol):
    """Delivers notices to people or programs."""

    def deliver(self, notice: Event) -> None:
        """Deliver one notice, in 5 seconds at most; raises NoticeError when it was not accepted."""


KINDS: dict[WebhookFormat, type[Slack] | type[Teams] | type[JsonEvents]] = {"slack": Slack, "teams": Teams, "json": JsonEvents}


def choose_notifier(url: str, form: WebhookFormat | None = None) -> Notifier | None:
    """The notifier of this format, by default the one that the host of the address expects; None without an address."""
    if not url:
        return None
    return KINDS[form or guess_format(url)](url)


def guess_format(url: str) -> WebhookFormat:
    """The format that the host of a webhook expects: Slack's, unless the host is one of Teams."""
    try:
        host = urllib.parse.urlsplit(url).hostname or ""
    except ValueError:
        return "slack"
    return "teams" if host.rstrip(".").endswith(TEAMS_HOSTS) else "slack"
