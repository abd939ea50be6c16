"""HTML and SVG elements as text, escaped unless it was created here, so that no name of a table or column can become markup."""

from html import escape


class Markup(str):
    """Text that is markup already and is not escaped again."""

    __slots__ = ()


def element(name: str, *children: str | None, **attributes: object) -> Markup:
    """Returns ``<name attributes>children</name>``; plain text is escaped, None is left out.

    An underscore in an attribute's name becomes a hyphen; one at its end is removed (``class_``).
    """
    named = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_text(value))}"' for key, value in attributes.items() if value is not None
    )
    return Markup(f"<{name}{named}>{join(*children)}</{name}>")


def join(*children: str | None) -> Markup:
    """Concatenates the children; plain text is escaped."""
    return Markup("".join(child if isinstance(child, Markup) else escape(child) for child in children if child is not None))


def _text(value: object) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
