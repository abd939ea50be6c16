"""The command ``scoring why``."""

import click

from producers.cli.options import CommandWithNegativeNumbers
from producers.display.terminal import console, json_option, open_bucket_here, print_json, warn


@click.command(cls=CommandWithNegativeNumbers)
@click.argument("keys", nargs=-1, required=True, metavar="ENTITY_ID DEVICE")
@click.option("--in", "named", metavar="CHANNEL|JOB", help="The result.  [default: the channel live, or the only channel]")
@click.option("--against", metavar="CHANNEL|JOB", help="The result to compare it with.  [default: the one before]")
@json_option
def why(keys: tuple[str, ...], named: str | None, against: str | None, as_json: bool) -> None:
    """Explain one rate, and why it is another one than before.

    Shows its release, its job, and the file and line of its row.
    DEVICE is Computer, Smartphone or Tablet, or 0, 1 or 2. Rows of a definition with keys of its own are named by these, in their order.
    The change is split exactly into what the release, the history of the keyword and each column of the row did. A worker computes it.

    \b
    Example:
        scoring why 20458 Smartphone
        scoring why 20458 Smartphone --in 9bfad3 --against 0a1b2c
    """
    from producers.display import why as display_why
    from producers.explaining.asking import ask
    from producers.explaining.compared import choose_results
    from shared.errors import RequestError
    from shared.guard.explanation import MAX_KEYS, Question

    settings, bucket = open_bucket_here()
    compared = choose_results(bucket, named, against)
    if len(keys) > MAX_KEYS or max(map(len, keys)) > MAX_KEY_LENGTH:
        raise RequestError("these are too many or too long keys", next_step="Name one row: scoring why ENTITY_ID DEVICE")
    found = ask(settings, Question(job_id=compared.job_id, against=compared.against, keys=list(keys)))
    found = found.model_copy(update={"notes": [*found.notes, *compared.notes]})
    if as_json:
        print_json(found.encode())
    else:
        display_why.print_explanation(console(), found)
        for note in found.notes:
            warn(note)
    if found.is_nowhere:
        row = ", ".join(f"{name} {value}" for name, value in found.keys.items())
        tables = " nor in that of ".join(f"job {one.job_id}" for one in found.rows)
        raise RequestError(
            f"there is no row with {row} in the table of {tables}",
            next_step=f"See the first keys of the result with: scoring results head {found.now.job_id}",
        )


MAX_KEY_LENGTH = 1000
