"""The commands under ``scoring models`` that list, show, sign and check releases and definitions."""

import json
import sys
from pathlib import Path

import click

from producers.cli.commands import model_changes
from producers.display.terminal import console, json_option, open_bucket_here, print_json, say, say_empty, warn, warn_of_unreadable
from producers.local_definitions import PACKAGE
from producers.releases.new_definition import shown, test_command, write_skeleton
from shared.errors import ModelError, TableError
from shared.settings import read_settings


@click.group()
def models() -> None:
    """List, compare and choose releases; check definitions."""


for command in model_changes.COMMANDS:
    models.add_command(command)


@models.command("list")
@click.option("--best-first", is_flag=True, help="Sort by log-loss per click instead of by time.")
@click.option("--quiet", "-q", is_flag=True, help="Print only the ids.")
@json_option
def models_list(best_first: bool, quiet: bool, as_json: bool) -> None:
    """List the releases in the store, the newest first.

    With --best-first releases that were evaluated on the same table are listed together, the best first: metrics on different tables do
    not show which release is better. The tables are ordered by the newest release that was evaluated on each.

    \b
    Example:
        scoring models list --best-first
    """
    from producers.display import releases as display_releases
    from producers.releases import finding as releases_finding
    from shared.catalog.aliases import damaged_aliases
    from shared.signatures import Signature

    _, bucket = open_bucket_here()
    releases, unreadable = releases_finding.inspect_releases(bucket)
    warn_of_unreadable(unreadable)
    for error in damaged_aliases(bucket).values():
        say(f"Left out: {error}", err=True)
    for release in releases:
        if release.signed is Signature.WRONG:
            warn(f"workers refuse {release.manifest.release}: signed: {release.signed}")
    if best_first:
        releases = [release for group in releases_finding.judged_alike(releases) for release in group]
    if quiet and not as_json:
        say("\n".join(release.manifest.release for release in releases))
        return
    if as_json:
        data = [release.manifest.encode() | {"aliases": release.aliases, "retired": release.retired} for release in releases]
        print_json([*data, *({"release": found.release, "path": found.path, "unreadable": found.reason} for found in unreadable)])
    elif releases:
        for group in releases_finding.judged_alike(releases) if best_first else [releases]:
            display_releases.print_releases(console(), group, grouped=best_first)
    elif not unreadable:
        say_empty(bucket, "There is no release yet", "Train one with: scoring train v1")


@models.command("show")
@click.argument("model")
@click.option("--report", "report_file", type=click.Path(path_type=Path), help="Write its report, a page for the browser, to this file.")
@json_option
def models_show(model: str, report_file: Path | None, as_json: bool) -> None:
    """Show one release, named as for `scoring score --model`.

    \b
    Example:
        scoring models show champion
        scoring models show champion --report report.html
    """
    from producers.display import releases as display_releases
    from producers.releases import files
    from producers.releases import finding as releases_finding
    from shared.catalog.aliases import resolve

    _, bucket = open_bucket_here()
    release = releases_finding.find_release(bucket, resolve(bucket, model))
    warn_of_unreadable(releases_finding.inspect_releases(bucket)[1])
    if report_file is not None:
        files.write_report(bucket, release.manifest, report_file)
        if not as_json:
            say(f"The report of {release.manifest.release} is in {report_file}")
            return
    if as_json:
        print_json(release.manifest.encode() | {"aliases": release.aliases, "signed": release.signed, "retired": release.retired})
    else:
        display_releases.print_release(console(), release)


@models.command("sign")
@click.argument("releases", nargs=-1, required=True, metavar="RELEASE...")
@json_option
def models_sign(releases: tuple[str, ...], as_json: bool) -> None:
    """Sign releases with SCORING_STORE_KEY, named as for `scoring score --model`.

    Releases need this that were made before the key was set, or signed with an older key that SCORING_STORE_KEY lists after the new one.
    Sign only releases that you know are yours: workers load what is signed.

    \b
    Example:
        scoring models sign v1@20261123T101500Z-9bfad3
        scoring models list -q | xargs scoring models sign
    """
    from producers.releases.signing import sign_release
    from shared.catalog.aliases import resolve

    _, bucket = open_bucket_here()
    signed = []
    for name in releases:
        release = resolve(bucket, name)
        sign_release(bucket, release)
        signed.append(release)
        if not as_json:
            say(f"Signed {release}")
    if as_json:
        print_json(signed)
    else:
        say("A job that failed because its release was not signed goes on with: scoring jobs resume JOB")


@models.command("check")
@click.argument("definition")
@click.option("--table", type=click.Path(path_type=Path), help="Try it on the first rows of this table, not on made-up ones.")
@json_option
def models_check(definition: str, table: Path | None, as_json: bool) -> None:
    """Run the contract suite on a definition and print what fails.

    \b
    Example:
        scoring models check v2
        scoring models check v2 --table week30.csv.gz
    """
    import subprocess

    # a separate program: producers never import a model
    extra = read_settings().definitions
    command = [sys.executable, "-m", "model_store.checks", definition, *(["--json"] if as_json else [])]
    command += ["--extra", str(extra.absolute())] if extra else []
    command += ["--table", str(table.absolute())] if table else []
    done = subprocess.run(command, cwd=Path(__file__).resolve().parents[3], check=False, stdout=subprocess.PIPE, encoding="utf-8")
    say(done.stdout.rstrip("\n"))
    code = done.returncode
    if code not in (0, ModelError.exit_code, TableError.exit_code):
        raise ModelError(f"the checks of {definition} could not be run (exit code {code})", next_step="See the messages above.")
    sys.exit(code)


@models.command("compare")
@click.argument("one")
@click.argument("other")
@click.option("--table", help="The evaluation table, by its path.  [default: one on which both were judged]")
@json_option
def compare(one: str, other: str, table: str | None, as_json: bool) -> None:
    """Compare two releases on the same rows.

    Prints whether the difference is more than chance. A training evaluates its release, the champion and the newest release of each
    definition on the same rows, so comparing needs no worker.

    \b
    Example:
        scoring models compare v2 champion
    """
    from producers.display import comparison
    from producers.releases import comparing, finding

    settings, bucket = open_bucket_here()
    warn_of_unreadable(finding.inspect_releases(bucket)[1])
    found = comparing.compare_releases(bucket, one, other, table=table, confidence=settings.gate_confidence)
    if as_json:
        print_json(comparison.data_of(found))
    else:
        comparison.print_comparison(console(), found)


@models.command("new")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write into.  [default: SCORING_DEFINITIONS, else model_store]",
)
@json_option
def new(name: str, into: Path | None, as_json: bool) -> None:
    """Write the skeleton of a definition, and its test.

    It trains and scores unchanged; existing files are not replaced.

    \b
    Example:
        scoring models new v4
        scoring models new v4 --into /srv/definitions
    """
    known = read_settings().definitions
    folder = (into or known or PACKAGE).absolute()
    test = write_skeleton(name, folder)
    if as_json:
        click.echo(json.dumps({"definition": name, "folder": str(folder / name), "test": str(test)}, indent=1))
        return
    say(f"The definition {name} is in {shown(folder / name)}, its test in {shown(test)}. Now type:")
    if folder not in (PACKAGE, known and known.absolute()):
        say(f"export SCORING_DEFINITIONS={folder}     (here, and where the workers are started)")
    say(f"scoring models check {name}\n{test_command(test)}scoring train {name}")
    say("docs/how-to/add-a-model.md says what to change in it.")
