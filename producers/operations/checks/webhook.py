"""The check of the webhook."""

from collections.abc import Iterator

from producers.operations.checks.examined import Examined
from producers.operations.checks.finding import Finding, error, ok, warning
from shared.queue.routes import QUEUE_CONTROL


def check_webhook(examined: Examined) -> Iterator[Finding]:
    """Checks that a webhook is set and, with ``send_test_notice``, accepts a message from a worker."""
    answer = examined.answers.get(QUEUE_CONTROL)
    if not examined.settings.webhook_url.get_secret_value():
        yield warning("webhook", "none is set here: notices are only logged", "Set WEBHOOK_URL.")
    elif not examined.send_test_notice:
        yield ok("webhook", "one is set; --send tries it")
    elif answer is None or answer.webhook is None:
        yield error("webhook", "no worker tried it", "Start a worker for the queue control.")
    elif answer.webhook:
        yield error("webhook", answer.webhook, "Check the WEBHOOK_URL of the workers.")
    else:
        yield ok("webhook", "it took a message: look whether it is to be read there")
