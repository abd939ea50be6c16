"""A rich console that escapes terminal commands in its text, and raises BrokenPipeError when its reader is gone."""

import textwrap

from rich.console import Console
from rich.text import Text

from shared.text.plain import plain


class PlainConsole(Console):
    """A console that raises BrokenPipeError instead of ending the program."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def cell(text: object) -> Text:
    """Plain text, without markup (a path may look like it) or terminal commands."""
    return Text(plain(text))


def print_prose(console: Console, text: object) -> None:
    """Prints a sentence; on a terminal wrapped at words, without breaking ids."""
    lines = textwrap.wrap(plain(text), console.width, break_long_words=False, break_on_hyphens=False) if console.is_terminal else [text]
    for line in lines:
        print_line(console, line)


def print_line(console: Console, text: object, *, style: str = "") -> None:
    """Prints one line. A terminal may fold it; a file holds it whole."""
    console.print(plain(text), style=style or None, soft_wrap=True, markup=False, highlight=False)
