"""HTML and SVG elements as text that is escaped unless it was made here: no name of a table or column can become markup."""

from html import escape


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: object) -> Markup:
    """``<name attributes>children</name>``; plain text is escaped, None is left out.

    An underscore in an attribute's name stands for a hyphen, one at its end for nothing (``class_``).
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{named}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """The children one behind the other; plain text is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None))


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
