"""The command `scoring models compare`."""

import click

from producers.display.terminal import console, json_option, open_bucket_here, print_json, warn_of_unreadable


@click.command("compare")
@click.argument("one")
@click.argument("other")
@click.option("--table", help="The evaluation table, by its path.  [default: one on which both were judged]")
@json_option
def compare(one: str, other: str, table: str | None, as_json: bool) -> None:
    """Compare two releases on the same rows.

    Says whether the difference is more than chance. A release is judged when it is trained, and so are the champion and the newest
    release of each definition, on the same rows; so no worker is needed.

    \b
    Example:
        scoring models compare v2 champion
    """
    from producers import comparing
    from producers.display import comparison
    from producers.releases import finding

    settings, bucket = open_bucket_here()
    warn_of_unreadable(finding.look_at_releases(bucket)[1])
    found = comparing.compare_releases(bucket, one, other, table=table, confidence=settings.gate_confidence)
    if as_json:
        print_json(comparison.data_of(found))
    else:
        comparison.print_comparison(console(), found)
