"""The commands under ``scoring results`` about channels and held results."""

from pathlib import Path

import click

from producers.cli.after_enqueue import after_enqueue, wait_option
from producers.display.terminal import console, json_option, open_bucket_here, print_json, say, say_empty

reason_option = click.option("--reason", required=True, help="Why; kept in the history and shown in the notice.")


@click.command()
@json_option
def held(as_json: bool) -> None:
    """List the results that the guard holds back, the oldest first.

    \b
    Example:
        scoring results held
    """
    from producers.channels.held import list_held
    from producers.display import channels as display_channels

    _, bucket = open_bucket_here()
    found = list(list_held(bucket))
    if as_json:
        print_json([vars(result) for result in found])
    elif found:
        display_channels.print_held(console(), found)
    else:
        say_empty(bucket, "No result is held")


@click.command()
@click.argument("job_id", metavar="JOB")
@reason_option
@wait_option
@json_option
def approve(job_id: str, reason: str, wait: bool, as_json: bool) -> None:
    """Publish the held result of JOB at its place and on its channel.

    The first decision about a result counts. If the channel has moved on since the result was held, the result is compared with what the
    channel shows now, and may be held once more.

    \b
    Example:
        scoring results approve 9bfad3 --reason "the shop closed its tablet campaigns"
    """
    from producers.channels import deciding
    from producers.channels.refused import decision_in_words
    from producers.job_names import find_job_to_change

    settings, bucket = open_bucket_here()
    job_id = find_job_to_change(bucket, job_id, "scoring results approve")
    approval = deciding.approve(settings, bucket, job_id, reason=reason)
    if approval.earlier is not None:
        earlier = decision_in_words(approval.earlier)
        say(f"The result of job {job_id} was {earlier}. This command completes that approval; its own reason is not kept.", err=True)
    after_enqueue(settings, bucket, approval.enqueued, wait=wait, as_json=as_json)


@click.command()
@click.argument("job_id", metavar="JOB")
@reason_option
@json_option
def refuse(job_id: str, reason: str, as_json: bool) -> None:
    """Keep the held result of JOB from its channel for good.

    The channel keeps what it shows. The result stays as a revision until its retention ends.

    \b
    Example:
        scoring results refuse 9bfad3 --reason "the join upstream was broken"
    """
    from producers.channels import deciding
    from producers.job_names import find_job_to_change

    _, bucket = open_bucket_here()
    job_id = find_job_to_change(bucket, job_id, "scoring results refuse")
    decision = deciding.refuse(bucket, job_id, reason=reason)
    if as_json:
        print_json({"job_id": job_id, **decision.encode()})
    else:
        say(f"The result of job {job_id} is refused; its channel keeps what it shows")


@click.command()
@click.argument("result", metavar="JOB|CHANNEL")
@click.option(
    "--against", metavar="JOB|CHANNEL", help="The result to compare it with.  [default: what its channel showed when it was judged]"
)
@click.option("--top", type=click.IntRange(1, 1000), default=20, show_default=True, help="The number of rows of each kind to show.")
@click.option(
    "--csv", "csv_file", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write every moved, lost and new row."
)
@json_option
def diff(result: str, against: str | None, top: int, csv_file: Path | None, as_json: bool) -> None:
    """Compare the result of JOB, held or published, with the one before.

    CHANNEL means the result that it shows now. The one before is what its channel showed when the result was judged. A row that moved
    although its features are the same was moved by the model; otherwise the table changed.

    \b
    Example:
        scoring results diff 9bfad3
        scoring results diff live
        scoring results diff 9bfad3 --against 0a1b2c --csv changed.csv
    """
    from producers.channels import compared_results, difference_files, differences
    from producers.display import differences as display_differences

    _, bucket = open_bucket_here()
    compared = compared_results.find_compared(bucket, result, against)
    old, new = (compared_results.open_checked_index(bucket, one) for one in (compared.base, compared.result))
    far = compared_results.far_of_channel(bucket, compared.result.channel)
    if csv_file is None:
        found = differences.compare(old, new, top=top, by_more_than=far)
    else:
        found = difference_files.compare_into(csv_file, old, new, top=top, by_more_than=far)
    if as_json:
        print_json(display_differences.data_of(compared, found) | ({"csv": str(csv_file)} if csv_file else {}))
        return
    display_differences.print_differences(console(), compared, found)
    if csv_file is not None:
        say(f"Every moved, lost and new row is in {csv_file}")


@click.command()
@click.argument("channel")
@json_option
def history(channel: str, as_json: bool) -> None:
    """Show what CHANNEL showed, the newest first.

    Each change has its author and its reason.

    \b
    Example:
        scoring results history live
    """
    from producers.channels.moving import existing_channel
    from producers.display import channels as display_channels
    from shared.catalog.channels import channel_changes

    _, bucket = open_bucket_here()
    existing_channel(bucket, channel)
    found = list(channel_changes(bucket, channel))
    if as_json:
        print_json([change.encode() for change in found])
    else:
        display_channels.print_changes(console(), found)


@click.command()
@click.argument("channel")
@click.option(
    "--to", metavar="JOB", help="A job of its history whose result it shows then.  [default: the result before the one that it shows]"
)
@reason_option
@json_option
def rollback(channel: str, to: str | None, reason: str, as_json: bool) -> None:
    """Let CHANNEL show its previous result, and pin it.

    Later results of the schedule are held until `scoring results unpin CHANNEL`. Run it again to go back one more.

    \b
    Example:
        scoring results rollback live --reason "rates of tablets are ten times too high"
        scoring results rollback live --to 9bfad3 --reason "the last good night"
    """
    from producers.channels.moving import roll_back_channel

    _, bucket = open_bucket_here()
    change = roll_back_channel(bucket, channel, to=to, reason=reason)
    if as_json:
        print_json({"channel": channel, **change.encode()})
        return
    say(f"{channel} shows the result of job {change.job_id} now, made with {change.release}; before, it showed that of {change.was}")
    say(f"It is pinned: later results are held. End this with: scoring results unpin {channel}")


@click.command()
@click.argument("channel")
@click.option("--reason", default="", help="Why; kept in the history and shown in the notice.")
@json_option
def unpin(channel: str, reason: str, as_json: bool) -> None:
    """Let CHANNEL show later results again, after a rollback.

    It keeps showing its result until the next one passes the guard.

    \b
    Example:
        scoring results unpin live
    """
    from producers.channels.moving import existing_channel, unpin

    _, bucket = open_bucket_here()
    change = unpin(bucket, channel, reason=reason)
    now = change or existing_channel(bucket, channel)
    if as_json:
        print_json({"channel": channel, "changed": change is not None, "job_id": now.job_id})
        return
    state = "is not pinned any more" if change else "was not pinned"
    say(f"{channel} {state}: it shows the result of job {now.job_id}, and the next result that passes the guard replaces it")


COMMANDS = (held, diff, approve, refuse, history, rollback, unpin)
