"""The check that pages fetch nothing sees every way in which a page can."""

from __future__ import annotations

import pytest
from pages import outside, resources


@pytest.mark.parametrize(
    "fragment",
    [
        '<img src="https://example.org/a.png">',
        '<img src="a.png">',
        '<img srcset="data:image/png;base64,AA 1x, //example.org/b.png 2x">',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        '<svg><image xlink:href="http://example.org/a.png"/></svg>',
        '<svg><use href="https://example.org/a.svg#x"></use></svg>',
        '<object data="a.svg"></object>',
        '<style>@import "https://example.org/a.css";</style>',
        "<style>p { background: url(https://example.org/a.png) }</style>",
        "<p style=\"background: url('a.png')\">x</p>",
        '<meta http-equiv="refresh" content="0; url=https://example.org">',
        "<script>1</script>",
        '<p onclick="x()">x</p>',
    ],
)
def test_what_a_page_would_load_is_seen(fragment: str) -> None:
    assert outside(f"<html><body>{fragment}</body></html>")


def test_links_and_what_the_page_holds_are_no_fetches() -> None:
    page = (
        '<style>p { fill: url(#a) }</style><a href="https://example.org">x</a><img src="data:image/png;base64,AA">'
        '<use href="#a"></use>'
    )
    assert outside(page) == []
    assert resources(page) == ["data:image/png;base64,AA"]
