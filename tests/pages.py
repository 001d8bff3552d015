"""What a page would fetch, whatever the element or the style sheet that asks for it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

_FETCHES = {
    "src",
    "srcset",
    "href",
    "xlink:href",
    "data",
    "poster",
    "action",
    "formaction",
    "background",
    "manifest",
    "ping",
    "cite",
    "longdesc",
}
_IN_STYLE = re.compile(r"url\(\s*['\"]?([^)'\"]*)|@import\s+['\"]?([^;'\"]*)", re.IGNORECASE)


class _Resources(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_style = tag == "style"
        attributes = {name: value or "" for name, value in attrs}
        if tag == "script":
            self.found.append("a script")
        if attributes.get("http-equiv", "").lower() == "refresh":
            self.found.append(attributes.get("content", ""))
        for name, value in attributes.items():
            if name.startswith("on"):
                self.found.append(f"a script in {name}")
            if name in _FETCHES and not (tag == "a" and name == "href"):  # a link is fetched by who follows it
                self.found += [part.split()[0] for part in value.split(", ") if part.strip()]
            if value.strip().lower().startswith("javascript:"):
                self.found.append(value)
            self._style(value)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        in_style = self._in_style
        self.handle_starttag(tag, attrs)
        self._in_style = in_style

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self._style(data)

    def _style(self, text: str) -> None:
        self.found += [first or second for first, second in _IN_STYLE.findall(text)]


def resources(page: str) -> list[str]:
    """Everything that ``page`` refers to and a browser would load or run, in order; places within the page excepted."""
    return [one for one in _Resources(page).found if not one.startswith("#")]


def outside(page: str) -> list[str]:
    """What ``page`` would load that it does not hold itself as a ``data:`` address."""
    return [one for one in resources(page) if not one.startswith("data:")]
