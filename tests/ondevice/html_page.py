"""What a test reads of an HTML page."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Reads a page, checks that tags nest, and keeps text and attributes."""

    VOID = frozenset({"meta", "link", "img", "wbr", "br"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.html = html
        self.open: list[str] = []
        self.text, self.elements = "", list[tuple[str, dict[str, str | None]]]()
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data.replace("\u00a0", " ")

    def assert_stands_alone(self) -> None:
        """Nothing is loaded from elsewhere."""
        for tag, attributes in self.elements:
            for name in ("src", "href", "srcset", "xlink:href"):
                assert (attributes.get(name) or "data:").startswith(("data:", "#")), (tag, attributes)
        assert "url(" not in self.html
        assert "@import" not in self.html
