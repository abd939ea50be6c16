"""Types of options that are checked on input, each error of which says how to write the value; and negative numbers as arguments."""

import re
from datetime import date, datetime
from typing import Any

import click

from shared.errors import RequestError


class Share(click.ParamType):
    """A fraction from 0 to 1."""

    name = "share"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:  # noqa: ANN401 - click's own
        """Returns the number; raises RequestError with the intended share when the value looks like a percentage."""
        option = param.opts[0] if param else "the share"
        try:
            share = float(str(value).strip().removesuffix("%"))
        except ValueError:
            self.fail(f"{value!r} is not a number: write a share from 0 to 1, like 0.05 for 5 %.", param, ctx)
        if 0 <= share <= 1 and not str(value).strip().endswith("%"):
            return share
        meant = f"; {share:g} % is {share / 100:g}" if 0 <= share <= 100 else ""
        raise RequestError(f"{option} is from 0 to 1{meant}", next_step=f"Write it like: {option} 0.05")


class Day(click.ParamType):
    """A day like 2026-11-23."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:  # noqa: ANN401 - click's own
        """Returns the day; fails with click's error and an example."""
        if isinstance(value, date):
            return value
        try:
            return datetime.strptime(str(value), "%Y-%m-%d").date()
        except ValueError:
            self.fail(f"{value!r} is not a day: write it as year-month-day, like 2026-11-23.", param, ctx)


_NEGATIVE = re.compile(r"-[0-9]+")


class CommandWithNegativeNumbers(click.Command):
    """A command that takes an argument like ``-5`` for a number, not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parses the arguments; those after ``--`` are no options in any case."""
        maybe_options = args[: args.index("--")] if "--" in args else [*args]
        ctx.ignore_unknown_options = any(map(_NEGATIVE.fullmatch, maybe_options))
        rest = super().parse_args(ctx, args)
        for values in ctx.params.values():
            for value in values if isinstance(values, tuple) else ():
                if value.startswith("-") and value in maybe_options and not _NEGATIVE.fullmatch(value):
                    raise click.NoSuchOption(value, ctx=ctx)
        return rest
