"""What config/guard.yaml may say, and what is said about what it may not."""

import hashlib
from datetime import timedelta

import pytest

from shared.bucket.local import LocalBucket
from shared.errors import RequestError
from shared.guard.checks import CheckName, Checks, Grouping, Weight
from shared.guard.config import DEFAULTS, GUARD, MAX_BYTES, ChannelGuard, GuardMode, OnNewRelease, parse_guard_config, read_guard_config

WHOLE = b"""
live:
  mode: block                  # off | warn | block
  hold_for: 12h                # then people are notified again
  checks:
    rows:          {warn: 5%,  block: 10%}
    keys_lost:     {warn: 2%,  block: 10%, weight: clicks}
    keys_new:      {warn: 20%}
    keys_doubled:  {block: 0}
    clipped:       {warn: 0.1%, block: 1%}
    constant:      {block: true, columns: 10}
    mean_cr:       {warn: 10%, block: 25%, by: device, weight: clicks}
    p99_cr:        {warn: 25%, block: 100%, by: device}
    moved:         {by_more_than: 50%, warn: 5%, block: 20%, weight: clicks}
    psi_cr:        {warn: 0.1, block: 0.25, by: device}
    psi_features:  {warn: 0.1, columns: 10}
    same_table:    {warn: 26h, block: 50h}
  on_new_release: expected     # expected | wider (x 3) | same
"""


def refusal(text: bytes) -> str:
    with pytest.raises(RequestError) as refused:
        parse_guard_config(text)
    return str(refused.value)


def test_a_file_that_states_all_defaults_gives_the_defaults():
    assert parse_guard_config(WHOLE).channel("live") == ChannelGuard()


def test_the_checks_are_those_that_a_verdict_names():
    assert list(Checks.model_fields) == [name.value for name in CheckName]


def test_without_a_file_every_channel_has_the_defaults_and_blocks(tmp_path):
    config = read_guard_config(LocalBucket(tmp_path))
    assert (config.source, config.sha256) == (DEFAULTS, None)
    assert config.channel("live").mode == GuardMode.BLOCK


@pytest.mark.parametrize("text", [b"", b"\n# nothing\n", b"null", b"{}"])
def test_an_empty_file_means_the_defaults_and_its_text_has_a_digest(tmp_path, text):
    LocalBucket(tmp_path).write(GUARD, text)
    config = read_guard_config(LocalBucket(tmp_path))
    assert config.channel("live") == ChannelGuard()
    assert (config.source, config.sha256) == (GUARD, hashlib.sha256(text).hexdigest())


def test_a_channel_that_the_file_does_not_name_has_the_defaults():
    config = parse_guard_config(b"live: {mode: warn}")
    assert config.channel("live").mode == GuardMode.WARN
    assert config.channel("trial") == ChannelGuard()


def test_an_option_that_is_not_named_keeps_its_default():
    checks = parse_guard_config(b"live: {checks: {mean_cr: {block: 40%}}}").channel("live").checks
    assert checks.mean_cr.limits() == (0.10, 0.40)
    assert (checks.mean_cr.by, checks.mean_cr.weight) == (Grouping.DEVICE, Weight.CLICKS)
    assert checks.rows.limits() == (0.05, 0.10)


@pytest.mark.parametrize("text", [b"live: {mode: off}", b"live: {mode: 'off'}"])
def test_off_switches_the_guard_off_although_yaml_reads_it_as_false(text):
    assert parse_guard_config(text).channel("live").mode == GuardMode.OFF


def test_off_removes_a_limit():
    text = b"live: {checks: {rows: {warn: off, block: off}, keys_doubled: {block: off}, constant: {block: off}, same_table: {block: off}}}"
    checks = parse_guard_config(text).channel("live").checks
    assert checks.rows.limits() == checks.keys_doubled.limits() == checks.constant.limits() == (None, None)
    assert checks.same_table.limits() == (timedelta(hours=26).total_seconds(), None)


def test_every_option_is_read():
    text = (
        b"a: {hold_for: 2d, on_new_release: wider, checks: {mean_cr: {by: all, weight: rows, min_rows: 5}, "
        b"moved: {by_more_than: 80%}, psi_features: {columns: 3, block: 0.4}, same_table: {warn: 90min}}}"
    )
    guard = parse_guard_config(text).channel("a")
    assert (guard.hold_for, guard.on_new_release) == (timedelta(days=2), OnNewRelease.WIDER)
    assert (guard.checks.mean_cr.by, guard.checks.mean_cr.weight, guard.checks.mean_cr.min_rows) == (Grouping.ALL, Weight.ROWS, 5)
    assert (guard.checks.moved.by_more_than, guard.checks.psi_features.columns) == (0.8, 3)
    assert guard.checks.psi_features.limits() == (0.1, 0.4)
    assert guard.checks.same_table.limits() == (5400, 50 * 3600)


@pytest.mark.parametrize(
    ("text", "said", "write"),
    [
        (b"live: {modes: block}", "live: there is no field 'modes'", "Write mode."),
        (b"live: {mode: blok}", "live.mode: 'blok' cannot be used", "Write off, warn or block."),
        (b"live: {mode: }", "live.mode: None cannot be used", "Write off, warn or block."),
        (b"live: 5", "live: 5 is not a mapping", "Write for example live: {mode: block}"),
        (b"live: {checks: 5}", "live.checks: 5 is not a mapping", "Write for example checks: {rows: {warn: 5%, block: 10%}}"),
        (b"live: {checks: {rows: 5%}}", "live.checks.rows: '5%' is not a mapping", "Write for example rows: {block"),
        (b"live: {checks: {rws: {warn: 5%}}}", "live.checks: there is no check 'rws'", "Write rows."),
        (b"live: {checks: {absurd: {warn: 5%}}}", "live.checks: there is no check 'absurd'", "Write one of rows, keys_lost, keys_new"),
        (
            b"live: {checks: {rows: {weight: clicks}}}",
            "live.checks.rows: there is no field 'weight'",
            "Write one of min_rows, warn, block.",
        ),
        (b"live: {checks: {rows: {warn: 0.05}}}", "live.checks.rows.warn: 0.05 has no unit", "Write a percentage, like 5%, or off."),
        (b"live: {checks: {rows: {warn: 5 percent}}}", "rows.warn: '5 percent' is not a percentage", "Write a percentage, like 5%"),
        (b"live: {checks: {rows: {warn: -5%}}}", "rows.warn: '-5%' is not a percentage", "Write a percentage, like 5%"),
        (b"live: {checks: {rows: {warn: }}}", "rows.warn: None is not a percentage", "Write a percentage, like 5%, or off."),
        (b"live: {checks: {rows: {warn: 9000000%}}}", "is above 1,000,000%", "Write a percentage"),
        (
            b"live: {checks: {rows: {warn: 20%, block: 10%}}}",
            "live.checks.rows: its warn is above its block",
            "Write a smaller warn, or off.",
        ),
        (b"live: {checks: {rows: {min_rows: 0}}}", "rows.min_rows: 0 cannot be used", "Write a whole number of at least 1, like 100."),
        (b"live: {checks: {rows: {min_rows: true}}}", "rows.min_rows: True cannot be used", "Write a whole number of at least 1"),
        (b"live: {checks: {keys_doubled: {block: 1%}}}", "keys_doubled.block: '1%' is not a count of rows", "Write a whole number of rows"),
        (b"live: {checks: {keys_lost: {weight: cost}}}", "keys_lost.weight: 'cost' cannot be used", "Write clicks or rows."),
        (b"live: {checks: {constant: {block: 1}}}", "constant.block: 1 is neither true nor false", "Write true or off."),
        (b"live: {checks: {mean_cr: {by: devices}}}", "mean_cr.by: 'devices' cannot be used", "Write device or all."),
        (
            b"live: {checks: {psi_cr: {warn: 10%}}}",
            "psi_cr.warn: '10%' is not a number of at least 0",
            "Write a number, like 0.25, or off.",
        ),
        (b"live: {checks: {psi_cr: {warn: .nan}}}", "psi_cr.warn: nan is not a number", "Write a number, like 0.25"),
        (b"live: {checks: {psi_cr: {warn: .inf}}}", "psi_cr.warn: inf is not a number", "Write a number, like 0.25"),
        (b"live: {checks: {moved: {by_more_than: off}}}", "moved.by_more_than: False is not a percentage", "Write a percentage, like 50%."),
        (b"live: {checks: {psi_features: {columns: 0}}}", "psi_features.columns: 0 cannot be used", "Write a whole number from 1 to 1000"),
        (b"live: {checks: {same_table: {warn: 26}}}", "same_table.warn: 26 has no unit", "with d, h, min or s, like 26h, or off."),
        (b"live: {checks: {same_table: {warn: 26 hours}}}", "'26 hours' is not a length of time", "with d, h, min or s, like 26h, or off."),
        (b"live: {hold_for: 12}", "live.hold_for: 12 has no unit", "Write a whole number with d, h, min or s, at least 1min, like 12h."),
        (b"live: {on_new_release: no}", "live.on_new_release: False cannot be used", "Write expected, wider or same."),
        (b"../live: {mode: warn}", "'../live' cannot be the name of a channel", "Write letters, digits"),
        (b"1: {mode: warn}", "1 cannot be the name of a channel", "Write letters, digits"),
        (b"{true: {mode: warn}}", "True cannot be the name of a channel", "Write letters, digits"),
        (b"- live", "it is not a mapping of channels", "Write for example live: {mode: block"),
        (b"live", "it is not a mapping of channels", "Write for example live: {mode: block"),
        (b"live: {mode: warn", "it is not YAML", "Write for example"),
        (b"live: {mode: warn}\nlive: {mode: off}", "the field 'live' is there twice in line 2", "Write for example"),
        (b"a: &a {mode: warn}\nb: *a", "it uses an alias", "Write for example"),
        (b"live: " + b"[" * 30, "more than 20 levels", "Write for example"),
        (b"# " + b"x" * MAX_BYTES, "more than the 65,536 allowed", "Write a few lines"),
    ],
)
def test_what_cannot_be_used_is_refused_with_one_sentence(text, said, write):
    found = refusal(text)
    assert found.startswith("config/guard.yaml cannot be used: ")
    assert said in found
    assert write in found


def test_an_alias_bomb_is_refused():
    bomb = b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c]\n" % (98 + i, 98 + i, 97 + i, 97 + i) for i in range(20))
    assert "it uses an alias (*name)" in refusal(bomb)


def test_a_file_that_is_too_large_is_refused_unread(tmp_path):
    LocalBucket(tmp_path).write(GUARD, b"#" * (MAX_BYTES + 1))
    with pytest.raises(RequestError, match="it is 65,537 bytes long, more than the 65,536 allowed"):
        read_guard_config(LocalBucket(tmp_path))
