"""The blocks of a page: the page itself, figures, and tables that scroll on a narrow screen.

A page loads nothing (its content policy forbids it) and contains no script.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from model_store.report.html import Markup, element

STYLE = Path(__file__).with_name("report.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, *blocks: Markup, more_style: str = "") -> str:
    """Returns a whole page; ``more_style`` is CSS after that of all pages."""
    head = element(
        "head",
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
        Markup(f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'),
        element("title", title),
        element("style", Markup(STYLE.read_text(encoding="utf-8") + more_style)),
    )
    return f'<!DOCTYPE html>\n<html lang="en">{head}{element("body", element("main", *blocks))}</html>\n'


def key_figures(numbers: Sequence[tuple[str, str, str]]) -> Markup:
    """Draws numbers side by side: the name, the number, and words about it."""
    cells = [element("div", element("dt", name), element("dd", value, element("small", words))) for name, value, words in numbers]
    return element("dl", *cells, class_="key")


def figure(title: str, words: str, chart: Markup) -> Markup:
    """Draws a chart with its title and an explanation."""
    return element("figure", element("figcaption", element("h3", title), element("p", words)), chart)


def table(caption: str, names: Sequence[str], rows: Sequence[Sequence[str]], own: int | None = None) -> Markup:
    """Draws a table; the first cell of each row is its heading, and the row ``own`` is emphasized."""
    head = element("tr", *(element("th", name, scope="col") for name in names))
    body = [
        element(
            "tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]), class_="self" if place == own else None
        )
        for place, row in enumerate(rows)
    ]
    # a wide table scrolls in its card, also with the keyboard
    whole = element("table", element("caption", caption), element("thead", head), element("tbody", *body))
    return element("div", whole, class_="card", tabindex=0)


def facts(named: Mapping[str, str], caption: str = "") -> Markup:
    """Draws a table of names and values, in lines that wrap."""
    cells = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in named.items()]
    head = [element("caption", caption)] if caption else []
    return element("div", element("table", *head, element("tbody", *cells), class_="facts"), class_="card", tabindex=0)


def sentence(words: str) -> str:
    """Returns words as a sentence."""
    return f"{words[:1].upper()}{words[1:]}."
