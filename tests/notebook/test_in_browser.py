"""In a browser everything that is displayed can be read, in light and dark, also where the notebook overrules it."""

from __future__ import annotations

import pytest

from tests.notebook.conftest import things

READABLE = 4.5
"""Least contrast of text, as WCAG AA asks."""
_CONTRASTS = """
() => {
  const parse = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.04 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => [r, g, b].map((v) => linear(v / 255))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const found = parse(getComputedStyle(at).backgroundColor);
      if (found.length < 4 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const found = [];
  const walk = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement, text = walk.currentNode.textContent.trim();
    if (!text || text === "■" || element.closest("style")) continue;
    const style = getComputedStyle(element);
    const [a, b] = [light(parse(element.closest("svg") ? style.fill : style.color)), light(ground(element))];
    found.push([(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), text.slice(0, 60)]);
  }
  return found.sort((a, b) => a[0] - b[0]);
}
"""


@pytest.fixture
def page(chromium):
    page = chromium.new_page()
    yield page
    page.close()


def whole(body: str = "") -> str:
    cards = "".join(
        thing._html_repr() if hasattr(thing, "_html_repr") else thing._repr_html_() for thing in things().values()
    )
    return f"<!doctype html><meta charset=utf-8><body {body}><main>{cards}</main>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(page, scheme):
    page.emulate_media(color_scheme=scheme)
    page.set_content(whole())
    contrasts = page.evaluate(_CONTRASTS)
    assert len(contrasts) > 300
    assert contrasts[0][0] >= READABLE, contrasts[:5]
    ground = page.evaluate("getComputedStyle(document.querySelector('.trajkit')).backgroundColor")
    assert ground == {"light": "rgb(255, 255, 255)", "dark": "rgb(27, 30, 34)"}[scheme]


@pytest.mark.parametrize("light", ["true", "false"])
def test_the_theme_of_the_notebook_comes_first(page, light):
    page.emulate_media(color_scheme="dark" if light == "true" else "light")
    page.set_content(whole(f'data-jp-theme-light="{light}"'))
    assert page.evaluate(_CONTRASTS)[0][0] >= READABLE
    ground = page.evaluate("getComputedStyle(document.querySelector('.trajkit')).backgroundColor")
    assert ground == ("rgb(255, 255, 255)" if light == "true" else "rgb(27, 30, 34)")


def test_pictures_are_whole_and_nothing_runs_over_its_edge(page):
    page.set_viewport_size({"width": 760, "height": 800})
    page.set_content(whole())
    assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth > 50)")
    assert page.evaluate("document.documentElement.scrollWidth") <= 760
    over = page.evaluate(
        "[...document.querySelectorAll('.trajkit *')].filter((e) => !e.closest('.scroll, svg, style') && "
        "e.getBoundingClientRect().right > e.closest('.trajkit').getBoundingClientRect().right + 1).length"
    )
    assert over == 0
