"""A console that sends a terminal no command out of a table, and leaves a broken pipe to who ends the command."""

import textwrap

from rich.console import Console
from rich.text import Text

from shared.text.plain import plain


class PlainConsole(Console):
    """Ends no program by itself where the reader of its output has gone."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def cell(text: object) -> Text:
    """Plain text: neither markup, which a path may look like, nor a command to the terminal."""
    return Text(plain(text))


def print_prose(console: Console, text: object) -> None:
    """Print a sentence, on a terminal in lines of whole words; ids in it are never broken."""
    lines = textwrap.wrap(plain(text), console.width, break_long_words=False, break_on_hyphens=False) if console.is_terminal else [text]
    for line in lines:
        print_line(console, line)


def print_line(console: Console, text: object, *, style: str = "") -> None:
    """Print one line that a terminal may fold and a file holds whole."""
    console.print(plain(text), style=style or None, soft_wrap=True, markup=False, highlight=False)
