"""What a browser finds in a page that a worker wrote."""

import html.parser
import re


class SeenPage(html.parser.HTMLParser):
    """The tags, attributes and words of a page, and the tags that are left open at its end."""

    VOID = ("meta", "!doctype")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def check_that_it_loads_and_runs_nothing(page: str) -> None:
    seen = SeenPage(page)
    assert not seen.open
    assert not {"script", "link", "img", "iframe", "object", "embed", "a", "base"} & set(seen.tags)
    assert not re.search(r"https?://|//\w|@import|url\(|javascript:", page)
    assert not [name for name, _ in seen.attributes if name.startswith("on") or name in ("src", "href", "xlink:href", "style")]
    assert "default-src 'none'; style-src 'unsafe-inline'" in dict(seen.attributes)["content"] or "default-src 'none'" in page
