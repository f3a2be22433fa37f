"""The report in a real browser, opened from its file: the page with its runs, and the sections around it."""

from __future__ import annotations

import pytest

from tests.browsing import Watched, assert_dark_on_screen_alone
from tests.report.runs import HOSTILE, make_runs
from trajkit.demo.grid import GRID
from trajkit.report import write_report

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CURRENT = "[...document.querySelectorAll('.sentences button')].findIndex((one) => one.ariaCurrent === 'true')"
FIGURES = ("mean_step", "auc_by_step", "false_alarms")


class Report(Watched):
    """A report opened from its file."""

    def __init__(self, browser, path, width: int = 1280, at: str = "") -> None:
        super().__init__(browser, path.as_uri() + at, width)
        self.page.locator(".runs a, .sentences button").first.wait_for(state="attached")

    def open(self, number: int) -> None:
        """The run of that number in the list, from 0."""
        if self.page.locator(".back").is_visible():
            self.page.click(".back")
        self.page.locator(".runs a").nth(number).click()
        self.page.locator(".pane:visible .question").wait_for()

    @property
    def sentences(self):
        return self.page.locator(".pane:visible .sentences button")

    def pixels(self) -> str:
        return self.page.evaluate("document.querySelector('.picture').toDataURL()")

    @property
    def run(self) -> str | None:
        return self.page.evaluate("new URLSearchParams(location.hash.slice(1)).get('run')")


@pytest.fixture(scope="module")
def report(chromium, full_report):
    watched = Report(chromium, full_report)
    yield watched
    watched.page.close()


def test_the_list_has_the_runs_that_are_shown_and_is_filtered_and_searched(report):
    page = report.page
    assert page.locator(".runs a").count() == 9
    assert "9 of 120 runs, balanced over outcomes" in page.locator("#runs").inner_text()
    page.locator(".filters label", has_text="hallucination").click()
    report.until("() => document.querySelectorAll('.runs a').length === 3")
    page.locator(".filters label", has_text="hallucination").click()
    report.until("() => document.querySelectorAll('.runs a').length === 9")
    page.fill("input[type=search]", page.locator(".runs a").nth(4).get_attribute("data-id"))
    report.until("() => document.querySelectorAll('.runs a').length === 1")
    page.fill("input[type=search]", "")
    report.until("() => document.querySelectorAll('.runs a').length === 9")


def test_what_the_classifier_makes_of_the_run_stands_beside_it(report):
    report.open(0)
    assert "The outcome classifier" in report.page.locator(".pane:visible .foot").inner_text()


def test_choosing_a_sentence_changes_the_overlay(report):
    report.open(0)
    buttons = report.sentences
    buttons.nth(1).click()
    report.until(f"() => {CURRENT} === 1")
    before = report.pixels()
    buttons.nth(3).click()
    assert report.pixels() != before
    assert buttons.nth(3).get_attribute("aria-current") == "true"
    buttons.nth(1).click()
    assert report.pixels() == before


def test_arrow_keys_move_through_the_sentences(report):
    report.open(0)
    report.sentences.nth(1).click()
    before = report.pixels()
    report.page.keyboard.press("ArrowDown")
    assert report.sentences.nth(2).get_attribute("aria-current") == "true"
    assert report.pixels() != before


def test_pointing_at_the_image_says_the_effect_of_that_region_in_nats(report, runs):
    report.open(1)
    trace = next(run for run in runs if run.transcript_id == report.run)
    report.sentences.nth(2).click()
    picture = report.page.locator(".pane:visible .picture")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    col, row = 2, 1  # region 8 of 6 × 6, in the middle
    report.page.mouse.move(box["x"] + box["width"] * (col + 0.5) / GRID, box["y"] + box["height"] * (row + 0.5) / GRID)
    region, value = report.page.locator(".pane:visible .stage .tip").text_content().replace("−", "-").split(": ")
    assert region.startswith("region 8")
    assert float(value.removesuffix(" nats")) == pytest.approx(float(trace.effects[2, 8]), rel=0.06, abs=0.006)


def test_a_sentence_of_markup_stays_text(report):
    report.open(0)
    first = report.page.locator(".pane:visible .sentences .said").first
    assert first.text_content() == HOSTILE
    assert first.locator("b, script").count() == 0
    assert report.page.locator(".report h1").text_content() == "<i>Demo</i> & more"


def test_choosing_another_run_changes_image_question_and_sentences(report):
    page, seen = report.page, []
    for number in (0, 1):
        report.open(number)
        report.page.wait_for_timeout(150)
        shown = page.locator(".pane:visible")
        seen.append((report.run, shown.locator(".question").text_content(), shown.locator(".sentences").text_content()))
        seen[-1] += (report.pixels(),)
    assert all(one != other for one, other in zip(*seen, strict=True))


def test_left_and_right_arrows_turn_to_other_runs(report):
    report.open(0)
    ids = [link.get_attribute("data-id") for link in report.page.locator(".runs a").all()]
    for key, at in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1)):
        report.page.keyboard.press(key)
        report.until("(id) => new URLSearchParams(location.hash.slice(1)).get('run') === id", ids[at])


def test_an_address_opens_its_run_and_step(chromium, full_report, report):
    report.open(2)
    id_ = report.run
    watched = Report(chromium, full_report, at=f"#run={id_}&step=3")
    watched.until(f"() => {CURRENT} === 2")
    assert watched.run == id_
    watched.assert_no_trouble("file:")
    watched.page.close()


def test_play_walks_through_the_sentences_and_stops_when_asked(report):
    report.open(0)
    report.sentences.nth(0).click()
    play = report.page.locator(".pane:visible").get_by_label("Play")
    play.click()
    report.until(f"() => {CURRENT} === 1")
    assert play.get_attribute("aria-pressed") == "true"
    play.click()
    assert play.get_attribute("aria-pressed") == "false"


def test_figures_are_drawn_when_they_come_into_view_and_the_run_stays(chromium, full_report):
    watched = Report(chromium, full_report)
    watched.open(0)
    page, shown = watched.page, watched.run
    assert page.locator("[data-figure]:empty").count() > 0
    for key in FIGURES:
        page.locator(f"#panel-{key}").scroll_into_view_if_needed()
        page.locator(f"#panel-{key} .main-svg").first.wait_for()
    page.locator(".report nav a", has_text="Alarms").click()
    watched.until("() => Math.abs(document.getElementById('alarms').getBoundingClientRect().top) < 600")
    assert watched.run == shown
    watched.assert_no_trouble("file:")
    page.close()


def test_no_code_can_be_made_from_text_and_no_script_is_taken_but_the_page_s_own(report):
    policy = report.page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    scripts = next(rule for rule in policy.split(";") if rule.strip().startswith("script-src"))
    assert "unsafe" not in scripts
    assert "default-src 'none'" in policy


def test_a_script_that_is_put_into_the_page_does_not_run(chromium, full_report, tmp_path):
    page = full_report.read_text()
    changed = tmp_path / "changed.html"
    changed.write_text(page.replace("</body>", "<script>document.title = 'broken in'</script></body>"))
    watched = Report(chromium, changed)
    assert watched.page.title() != "broken in"
    assert any("script-src" in said for said in watched.trouble)
    watched.page.close()


def test_nothing_of_this_failed_or_asked_for_the_network(report):
    report.assert_no_trouble("file:")


def test_names_in_figures_are_text_and_neither_links_nor_markup(chromium, full_report):
    import pandas as pd

    from trajkit.plots import auc_by_step, false_alarms
    from trajkit.report.panels import figure_json

    name = '<a href="https://evil.example">click</a> <b>bold</b> &lt;i&gt; %{y}'
    row = {"method": name, "n_runs": 9, "n_failures": 3, "auc": 0.7, "low": 0.6, "high": 0.8}
    curves = auc_by_step(pd.DataFrame([row | {"step": step} for step in (1, 2, 3)]), shown=[name])
    rates = pd.DataFrame([{"unit": name, "n": 9, "rate": 0.1, "low": 0.0, "high": 0.2, "alpha": 0.1}])
    watched = Report(chromium, full_report)
    shown = watched.page.locator("#panel-mean_step .figure")
    shown.scroll_into_view_if_needed()
    shown.locator(".main-svg").first.wait_for()
    for figure, curve in ((curves, 1), (false_alarms(rates), 0)):
        watched.page.evaluate(
            """async ([figure, curve]) => {
                const element = document.querySelector("#panel-mean_step .figure");
                await Plotly.newPlot(element, figure.data, figure.layout, { displayModeBar: false });
                Plotly.Fx.hover(element, [{ curveNumber: curve, pointNumber: 0 }]);
            }""",
            [figure_json(figure), curve],
        )
        shown.locator(".hovertext text").first.wait_for()
        texts = shown.locator(".legendtext, .ytick text, .hovertext text").all_text_contents()

        assert sum(name in text for text in texts) == 2  # in the legend or at the axis, and under the pointer
        assert shown.locator("a").count() == 0
        assert shown.locator("[style*=bold]").count() == 0
    watched.assert_no_trouble("file:")
    watched.page.close()


def test_it_fits_a_phone(chromium, full_report):
    watched = Report(chromium, full_report, width=390)
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    watched.open(0)
    watched.sentences.nth(2).click()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    watched.assert_no_trouble("file:")
    watched.page.close()


def test_figures_keep_their_height_when_the_window_changes(chromium, full_report):
    watched = Report(chromium, full_report)
    figures = [f"#panel-{key} .figure" for key in FIGURES]
    for figure in figures:
        watched.page.locator(figure).scroll_into_view_if_needed()
        watched.page.locator(f"{figure} .main-svg").first.wait_for()
    before = [watched.page.locator(figure).bounding_box()["height"] for figure in figures]
    assert min(before) > 180
    for width in (1000, 900):  # the second change would show what the first has done to their boxes
        watched.page.set_viewport_size({"width": width, "height": 900})
        watched.page.wait_for_timeout(500)
    after = [watched.page.locator(f"{figure} .main-svg").first.bounding_box()["height"] for figure in figures]
    assert after == before
    watched.page.close()


def test_it_is_dark_where_that_is_wanted_and_light_on_paper(chromium, full_report):
    assert_dark_on_screen_alone(chromium, full_report, ".figure")


def test_paper_has_no_controls_and_no_number_broken_over_lines(chromium, full_report):
    watched = Report(chromium, full_report)
    watched.open(0)
    watched.page.emulate_media(media="print")
    watched.page.set_viewport_size({"width": 703, "height": 1000})  # of A4 less its margins
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 703
    for hidden in ("nav", ".topbar", ".controls", ".tools"):
        assert not watched.page.locator(hidden).first.is_visible()
    rows = watched.page.locator("#outcomes .panel > .scroll td.number:visible, #summary td.number")
    assert rows.count() > 10
    assert max(box["height"] for box in (cell.bounding_box() for cell in rows.all()[:60])) < 60
    assert rows.evaluate_all("(cells) => cells.every((cell) => getComputedStyle(cell).whiteSpace === 'nowrap')")
    watched.page.close()


def test_paper_has_all_figures_whether_they_were_seen_or_not(chromium, full_report):
    watched = Report(chromium, full_report)
    watched.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    watched.until("() => [...document.querySelectorAll('[data-figure]')].every((one) => one.querySelector('svg'))")
    watched.assert_no_trouble("file:")
    watched.page.close()


def test_a_run_without_effects_image_or_thinking_opens_without_errors(chromium, tmp_path):
    from tests.report.test_build import CASES

    bare = make_runs(4, 1)
    bare[0] = CASES["no effects"][0](bare[0])
    bare[1] = CASES["no image"][0](bare[1])
    bare[2] = CASES["no step at all"][0](bare[2])
    bare[3] = CASES["no thinking step"][0](bare[3])
    watched = Report(chromium, write_report(bare, tmp_path))
    for number in range(4):
        watched.open(number)
        watched.page.locator("#terms").scroll_into_view_if_needed()
        watched.page.locator(".pane:visible .foot").scroll_into_view_if_needed()
        watched.page.wait_for_timeout(150)
    watched.assert_no_trouble("file:")
    watched.page.close()
