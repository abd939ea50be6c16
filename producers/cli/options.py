"""Types of options that are checked on input; each error says how to write the value."""

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
