"""The report and the data page of a real run in a real browser. Without a Chromium these tests are skipped."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from chain import Chain

from browser import Browser, browser
from slimline.files import write_text
from slimline.report.data_page import data_page

pytestmark = pytest.mark.slow

PHONE, SCREEN = 360, 1280
"""CSS pixels across."""

FAINT = """
(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const luminance = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = element => {
    for (let one = element; one; one = one.parentElement) {
      const [r, g, b, a = 1] = parts(getComputedStyle(one).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    const ink = getComputedStyle(element)[element.closest("svg") ? "fill" : "color"];
    const [dark, light] = [luminance(parts(ink)), luminance(behind(element))].sort((a, b) => a - b);
    const contrast = (light + 0.05) / (dark + 0.05);
    if (contrast < 4.5) found.push(`${contrast.toFixed(1)}: ${walker.currentNode.data.trim().slice(0, 60)}`);
  }
  return found;
})()
"""
"""Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3)."""

CUT = """
[...document.querySelectorAll("svg text")].filter(text => {
  const inner = text.getBoundingClientRect(), outer = text.closest("svg").getBoundingClientRect();
  return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1 || inner.bottom > outer.bottom + 1;
}).map(text => text.textContent)
"""
"""Texts that reach beyond their drawing."""

OVERLAPPING = """
[...document.querySelectorAll("svg")].flatMap(svg => {
  const texts = [...svg.querySelectorAll("text")].map(text => [text.textContent, text.getBoundingClientRect()]);
  return texts.flatMap(([one, a], place) => texts.slice(place + 1).filter(([_, b]) =>
    Math.min(a.right, b.right) - Math.max(a.left, b.left) > 1 && Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top) > 3
  ).map(([other, _]) => `${one} / ${other}`));
})
"""
"""Texts of a drawing that lie on one another."""

DEAD = """
[...document.querySelectorAll("a[href^='#']")].map(link => link.getAttribute("href")).filter(href => !document.getElementById(href.slice(1)))
"""

BLANK = "[...document.images].filter(image => !image.complete || !image.naturalWidth || !(image.alt || image.closest('[role=img]'))).length"

FOCUS = "document.activeElement.matches('a, summary, .scroll') ? document.activeElement.outerHTML.slice(0, 90) : ''"

OUTLINE = "getComputedStyle(document.activeElement).outlineStyle"

REACHABLE = "document.querySelectorAll('a[href], summary, .scroll').length"


@pytest.fixture(scope="module")
def one() -> Iterator[Browser]:
    with browser() as started:
        yield started


@pytest.fixture(params=["report", "data"])
def shown(request: pytest.FixtureRequest, chain: Chain, tmp_path: Path) -> Path:
    if request.param == "report":
        return chain.paths.report
    write_text(tmp_path / "data.html", data_page(chain.paths))
    return tmp_path / "data.html"


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, SCREEN])
def test_a_page_is_whole_quiet_and_readable_on_every_screen(one: Browser, shown: Path, width: int, dark: bool) -> None:
    one.open(shown, width=width, dark=dark)
    assert (one.complaints, one.requests) == ([], [])
    assert one.evaluate("document.documentElement.scrollWidth") <= width
    assert [one.evaluate(script) for script in (FAINT, CUT, OVERLAPPING, DEAD, BLANK)] == [[], [], [], [], 0]
    # What a reader of the screen hears: one first heading, and a name for every picture.
    tree = [node for node in one.call("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in tree]
    assert one.evaluate("document.querySelectorAll('h1').length") == 1
    assert all(name for role, name in roles if role in ("image", "img", "link", "region", "navigation", "table"))


def test_the_keyboard_reaches_every_link_and_everything_that_scrolls(one: Browser, chain: Chain) -> None:
    one.open(chain.paths.report, width=PHONE)
    reached = set()
    for _ in range(one.evaluate(REACHABLE)):
        one.press("Tab")
        assert one.evaluate(OUTLINE) != "none"
        reached.add(one.evaluate(FOCUS))
    assert "" not in reached
    assert len(reached) == one.evaluate(REACHABLE)


def test_the_report_is_small_enough_to_send(chain: Chain) -> None:
    assert chain.paths.report.stat().st_size < 2_000_000


def test_the_browser_would_have_noticed(one: Browser, tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<html><body><p style='color: #999; background: #aaa'>faint</p><div style='width: 3000px'>wide</div><img src='not-there.png'>"
        "<a href='#nowhere'>dead</a><svg width=20 height=20><text x=0 y=15 fill='#000'>far too long</text><text x=0 y=17>on it</text></svg>"
        "<script>console.error('told'); nonsense()</script></body></html>"
    )
    one.open(page, width=PHONE)
    assert len(one.complaints) >= 2
    assert [url.rpartition("/")[2] for url in one.requests] == ["not-there.png"]
    assert one.evaluate("document.documentElement.scrollWidth") > PHONE
    assert re.match(r"1\.\d: faint", one.evaluate(FAINT)[0])
    assert one.evaluate(OVERLAPPING) == ["far too long / on it"]
    assert (one.evaluate(CUT), one.evaluate(DEAD), one.evaluate(BLANK)) == (["far too long", "on it"], ["#nowhere"], 1)
