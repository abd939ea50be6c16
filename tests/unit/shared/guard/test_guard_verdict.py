"""The record of a verdict, and the numbers that a notice quotes."""

from datetime import UTC, datetime

import pytest

from shared.errors import MessageError
from shared.guard.checks import CheckName, Unit
from shared.guard.config import GuardMode, OnNewRelease
from shared.guard.verdict import CheckOutcome, CheckResult, ConfigVersion, GuardVerdict, Outcome, worst_checks, worst_in_words
from shared.records import decode

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RELEASE = "v1@20261101T101500Z-9bfad3"


def check(name, outcome, value=None, *, group="all", warn=0.1, block=0.2, **options):
    return CheckResult(
        check=CheckName(name),
        group=group,
        unit=Unit.SHARE,
        value=value,
        warn=warn,
        block=block,
        outcome=CheckOutcome(outcome),
        sentence=f"{name} of {group} is {value}",
        **options,
    )


def verdict(*checks, outcome=Outcome.HOLD):
    return GuardVerdict(
        channel="live",
        mode=GuardMode.BLOCK,
        config=ConfigVersion(),
        on_new_release=OnNewRelease.EXPECTED,
        base=None,
        job_id="job-1",
        release=RELEASE,
        at=NOON,
        table_since=NOON,
        outcome=outcome,
        checks=list(checks),
    )


CHECKS = (
    check("rows", "ok", 0.01),
    check("psi_cr", "warn", 0.19),
    check("mean_cr", "block", 0.3, group="Computer"),
    check("mean_cr", "block", 0.9, group="Tablet"),
    check("p99_cr", "failed", reason="no luck"),
    check("moved", "block", 0.4),
    check("clipped", "skipped"),
)


def test_the_worst_checks_block_then_fail_then_warn_and_each_check_is_named_once():
    found = verdict(*CHECKS, outcome=Outcome.WARN)
    assert [(one.check, one.group) for one in worst_checks(found)] == [("mean_cr", "Tablet"), ("moved", "all"), ("p99_cr", "all")]
    assert worst_in_words(found) == ["mean_cr of Tablet is 0.9", "moved of all is 0.4", "p99_cr of all is None"]
    assert [one.check for one in worst_checks(found, 9)] == ["mean_cr", "moved", "p99_cr", "psi_cr"]
    assert found.facts["guard"] == "(1) mean_cr of Tablet is 0.9; (2) moved of all is 0.4; (3) p99_cr of all is None"


def test_what_only_warns_is_no_reason_to_hold_a_result():
    assert [one.check for one in worst_checks(verdict(*CHECKS), 9)] == ["mean_cr", "moved", "p99_cr"]
    assert worst_in_words(verdict(check("psi_cr", "warn", 0.19), check("moved", "block", 0.4))) == ["moved of all is 0.4"]


def test_a_limit_of_zero_is_exceeded_without_bound_and_the_difference_of_a_release_counts_too():
    assert check("keys_doubled", "block", 3.0, warn=None, block=0.0).excess == float("inf")
    assert check("mean_cr", "block", 0.1, model_value=1.2, model_limit=0.6).excess == 2.0
    assert check("mean_cr", "warn", 0.15).excess == pytest.approx(1.5)
    assert check("mean_cr", "ok", 0.05).excess == 0.0


def test_a_verdict_without_findings_quotes_nothing():
    assert worst_in_words(verdict(check("rows", "ok", 0.0))) == []


def test_a_verdict_reads_back_and_a_field_of_a_later_version_is_refused():
    found = verdict(check("rows", "block", 0.5))
    assert decode(GuardVerdict, found.to_json()) == found
    with pytest.raises(MessageError, match="this version knows no such field"):
        decode(GuardVerdict, found.to_json().replace(b'"channel"', b'"canal": 1, "channel"'))
