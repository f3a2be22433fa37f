"""The site of docs/ is built without a warning, every link of it leads somewhere, and it needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from trajkit.demo import paths

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    """The folder of the built site; what does not resolve is an error."""
    folder = tmp_path_factory.mktemp("site")
    command = [*(sys.executable, "-m", "sphinx", "-c", "docs", "-n", "-W", "--keep-going", "-q"), "-d"]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    done = subprocess.run(
        [*command, str(folder / "doctrees"), ".", str(folder / "html")],
        cwd=paths.ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "html"


class Page(HTMLParser):
    """What a page of HTML refers to (`links`, `loads`), and the places in it (`ids`)."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links, self.loads, self.ids = set[str](), set[str](), set[str]()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value for name, value in attrs if value is not None}
        self.ids |= {said[name] for name in ("id", "name") if name in said}
        if "href" in said:
            (self.links if tag == "a" else self.loads).add(said["href"])
        self.loads |= {said[name] for name in ("src", "data") if name in said}


def pages_of(site: Path) -> dict[Path, Page]:
    return {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}


def test_every_link_and_anchor_of_the_site_leads_somewhere(site):
    pages = pages_of(site)
    assert len(pages) > 50
    missing = []
    for path, page in pages.items():
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            anchor = unquote(parts.fragment)
            lost = anchor and target in pages and anchor not in pages[target].ids
            if not target.exists() or lost:
                missing.append(f"{path.relative_to(site.resolve())}: {link}")
    assert missing == []


def test_no_page_loads_anything_from_elsewhere(site):
    for path, page in pages_of(site).items():
        assert [load for load in page.loads if urlsplit(load).netloc or load.startswith("//")] == [], path
    for sheet in site.rglob("*.css"):
        assert re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", sheet.read_text(encoding="utf-8")) == [], sheet


class Offline:
    """Pages of the site in a browser without a network, and the trouble that they had."""

    def __init__(self, site: Path, chromium: Any, width: int = 1280, scheme: str = "light") -> None:
        self._site, size = site, {"width": width, "height": 900}
        self.page = chromium.new_context(viewport=size, color_scheme=scheme, offline=True).new_page()
        self.trouble: list[str] = []
        self.page.on("request", lambda request: request.url.startswith("http") and self.trouble.append(request.url))
        self.page.on("requestfailed", lambda request: self.trouble.append(request.url))
        self.page.on("console", lambda message: message.type == "error" and self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))

    def open(self, name: str, query: str = "") -> Any:
        """The page of that name, loaded."""
        self.page.goto((self._site / name).as_uri() + query)
        return self.page


@pytest.fixture
def offline(site, chromium):
    """`Offline` of the site; nothing may go wrong on its pages."""
    made = []
    yield lambda **options: made.append(Offline(site, chromium, **options)) or made[-1]
    for each in made:
        each.page.context.close()
        assert each.trouble == []


SHOWN = ("docs/index.html", "docs/tutorial.html", "docs/reference/detection.html", "docs/reference/commands.html")


def test_every_page_is_read_without_a_network_on_a_phone(site, offline):
    pages = offline(width=390)
    for path in sorted(site.glob("*/**/*.html")):
        page = pages.open(str(path.relative_to(site)))
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, path


def test_a_page_of_each_kind_fits_a_wide_window(offline):
    pages = offline(width=1280)
    for name in (*SHOWN, "docs/explanation/method.html", "reports/detection.html"):
        page = pages.open(name)
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
        assert page.locator("article h1").inner_text()


def test_the_folder_opens_at_the_landing_page(offline):
    offline().open("index.html").wait_for_url("**/docs/index.html")


def test_formulas_are_drawn_and_pictures_are_there(offline):
    page = offline().open("docs/explanation/method.html")
    assert page.locator("math").count() > 50
    assert page.evaluate("document.querySelector('math[display=block] mfrac').getBoundingClientRect().height") > 20
    page = offline().open("docs/page.html")
    assert page.evaluate(
        "[...document.querySelectorAll('article img')].every((i) => i.complete && i.naturalWidth > 300)"
    )


def test_search_finds_a_word_of_a_docstring_and_of_a_page_in_files(offline):
    for word, found in (("tortuosity", "trajkit.trajectory"), ("exchangeability", "The method, formula by formula")):
        page = offline().open("search.html", f"?q={word}")
        page.locator("#search-results li a", has_text=found).first.wait_for(timeout=10_000)


def test_it_is_dark_where_dark_is_wanted(offline):
    lights = []
    for scheme in ("light", "dark"):
        page = offline(scheme=scheme).open("docs/tutorial.html")
        colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
        lights.append(sum(map(int, re.findall(r"\d+", colour)[:3])) / 3)
    assert lights[1] < 60 < 200 < lights[0]


def test_relative_links_of_the_readme_and_the_reports_lead_to_files():
    missing = []
    for page in (paths.ROOT / "README.md", *sorted((paths.ROOT / "reports").glob("*.md"))):
        text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        found = re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text)
        for link in ("".join(pair) for pair in found):
            target = link.partition("#")[0]
            if not link.startswith(("http", "data:")) and target and not (page.parent / target).exists():
                missing.append(f"{page.name}: {link}")
    assert missing == []
