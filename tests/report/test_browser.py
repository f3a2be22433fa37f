"""The report in a real browser, opened from its file."""

from __future__ import annotations

import json

import pytest

from tests.browsing import assert_dark_on_screen_alone
from tests.report.runs import HOSTILE, make_runs
from trajkit.report import write_report

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CURRENT = "[...document.querySelectorAll('#sentences button')].findIndex((one) => one.ariaCurrent === 'true')"


def until(page, condition: str, argument: str | None = None) -> None:
    """Wait for a condition; playwright's own way makes code of text inside the page, which the page forbids."""
    for _ in range(100):
        if page.evaluate(condition, argument):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"never came true: {condition}")


class Watched:
    """A page with what it logged and asked for."""

    def __init__(self, browser, path, width: int = 1280) -> None:
        self.page = browser.new_page(viewport={"width": width, "height": 900})
        self.trouble: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: message.type == "error" and self.trouble.append(message.text))
        self.page.on("pageerror", lambda error: self.trouble.append(str(error)))
        self.page.on("dialog", lambda dialog: (self.trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('policy: ' + e.violatedDirective))"
        )
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.page.locator("#run option").first.wait_for(state="attached")

    def pixels(self) -> str:
        return self.page.evaluate("document.getElementById('canvas').toDataURL()")

    def assert_no_trouble(self) -> None:
        assert self.trouble == []
        outside = [url for url in self.requests if not url.startswith(("file:", "data:", "blob:"))]
        assert outside == []


@pytest.fixture(scope="module")
def report(chromium, full_report):
    watched = Watched(chromium, full_report)
    watched.page.locator("#sentences button").nth(1).wait_for()
    yield watched
    watched.page.close()


def test_what_the_classifier_makes_of_the_run_stands_beside_it(report):
    assert "The outcome classifier" in report.page.locator("#reading").inner_text()


def test_hovering_a_sentence_changes_the_overlay(report):
    buttons = report.page.locator("#sentences button")
    buttons.nth(1).hover()
    before = report.pixels()
    buttons.nth(3).hover()
    assert report.pixels() != before
    assert buttons.nth(3).get_attribute("aria-current") == "true"
    buttons.nth(1).hover()
    assert report.pixels() == before


def test_arrow_keys_move_through_the_sentences(report):
    buttons = report.page.locator("#sentences button")
    buttons.nth(1).focus()
    before = report.pixels()
    report.page.keyboard.press("ArrowDown")
    assert buttons.nth(2).get_attribute("aria-current") == "true"
    assert report.pixels() != before


def test_pointing_at_the_image_says_the_effect_of_that_region_in_nats(report, runs):
    shown = report.page.locator("#run option:checked").text_content()
    trace = next(run for run in runs if run.transcript_id in shown)
    report.page.locator("#sentences button").nth(2).hover()
    report.page.locator("#canvas").scroll_into_view_if_needed()
    box = report.page.locator("#canvas").bounding_box()
    report.page.mouse.move(box["x"] + box["width"] * 5 / 8, box["y"] + box["height"] * 3 / 8)  # row 1, col 2: region 6
    region, value = report.page.locator("#tip").text_content().replace("−", "-").split(": ")
    step = int(report.page.locator("#sentences button[aria-current=true] .number").text_content()) - 1
    assert region == "region 6"
    assert float(value.removesuffix(" nats")) == pytest.approx(float(trace.effects[step, 6]), rel=0.06, abs=0.006)


def test_a_sentence_of_markup_stays_text(report):
    first = report.page.locator("#sentences .said").first
    assert first.text_content() == HOSTILE
    assert first.locator("b, script").count() == 0
    assert report.page.locator("h1").text_content() == "<i>Demo</i> & more"


def test_choosing_another_run_changes_image_question_and_sentences(report):
    page = report.page
    page.select_option("#run", "0")
    question, picture = page.locator("#question").text_content(), report.pixels()
    said = page.locator("#sentences").text_content()
    page.click("#next")
    until(page, "() => document.getElementById('count').textContent.startsWith('2 ')")
    until(page, "(old) => document.getElementById('canvas').toDataURL() !== old", picture)
    assert page.locator("#question").text_content() != question
    assert page.locator("#sentences").text_content() != said
    assert page.locator("#run").input_value() == "1"
    assert page.locator("#run optgroup").count() == 3


def test_left_and_right_arrows_turn_to_other_runs_also_from_within_the_sentences(report):
    page = report.page
    page.select_option("#run", "0")
    page.locator("#sentences button").nth(1).focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#run").input_value() == "1"
    assert page.evaluate("document.activeElement === document.querySelector('#sentences button')")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#run").input_value() == "0"
    page.locator("#outlines").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#run").input_value() == "1"


def test_a_pointer_that_rests_on_the_list_does_not_choose_a_sentence_of_the_next_run(report):
    page = report.page
    page.select_option("#run", "0")
    page.locator("#sentences button").nth(3).hover()
    assert page.evaluate(CURRENT) == 3
    page.keyboard.press("ArrowRight")
    assert page.locator("#run").input_value() == "1"
    page.wait_for_timeout(400)  # the browser tells a resting pointer a moment later what is under it now
    assert page.evaluate(CURRENT) == 0


def test_play_walks_through_the_sentences_and_stops_when_asked(report):
    page = report.page
    page.select_option("#run", "0")
    page.click("#play")
    until(page, f"() => {CURRENT} === 1")
    page.click("#play")
    assert page.locator("#play").get_attribute("aria-pressed") == "false"


def test_figures_are_drawn_when_they_come_into_view(report):
    page = report.page
    page.locator("#path").scroll_into_view_if_needed()
    page.locator("#path canvas").first.wait_for()
    names = page.evaluate("document.getElementById('path').data.map((trace) => trace.name)")
    assert names == ["steps", "start", "end", "current"]
    for key in ("mean_step", "auc_by_step", "false_alarms"):
        page.locator(f"#panel-{key}").scroll_into_view_if_needed()
        page.locator(f"#panel-{key} .main-svg").first.wait_for()
    drawn = json.loads(page.evaluate("JSON.stringify(document.getElementById('metrics').layout.shapes)"))
    assert len(drawn) == 1  # the line at the chosen step


def test_no_code_can_be_made_from_text(report):
    policy = report.page.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "unsafe-eval" not in policy
    assert "default-src 'none'" in policy


def test_nothing_of_this_failed_or_asked_for_the_network(report):
    report.assert_no_trouble()


def test_names_in_figures_are_text_and_neither_links_nor_markup(chromium, full_report):
    import pandas as pd

    from trajkit.plots import auc_by_step, false_alarms
    from trajkit.report.runs import figure_json

    name = '<a href="https://evil.example">click</a> <b>bold</b> &lt;i&gt; %{y}'
    row = {"method": name, "n_runs": 9, "n_failures": 3, "auc": 0.7, "low": 0.6, "high": 0.8}
    curves = auc_by_step(pd.DataFrame([row | {"step": step} for step in (1, 2, 3)]), shown=[name])
    rates = pd.DataFrame([{"unit": name, "n": 9, "rate": 0.1, "low": 0.0, "high": 0.2, "alpha": 0.1}])
    watched = Watched(chromium, full_report)
    for figure, curve in ((curves, 1), (false_alarms(rates), 0)):
        watched.page.evaluate(
            """async ([figure, curve]) => {
                const element = document.getElementById("metrics");
                await Plotly.newPlot(element, figure.data, figure.layout, { displayModeBar: false });
                Plotly.Fx.hover(element, [{ curveNumber: curve, pointNumber: 0 }]);
            }""",
            [figure_json(figure), curve],
        )
        watched.page.wait_for_timeout(300)
        shown = watched.page.locator("#metrics")
        texts = shown.locator(".legendtext, .ytick text, .hovertext text").all_text_contents()

        assert sum(name in text for text in texts) == 2  # in the legend or at the axis, and under the pointer
        assert shown.locator("a").count() == 0
        assert shown.locator("[style*=bold]").count() == 0
    watched.assert_no_trouble()
    watched.page.close()


def test_it_fits_a_phone(chromium, full_report):
    watched = Watched(chromium, full_report, width=390)
    watched.page.locator("#sentences button").nth(2).click()
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 390
    watched.page.locator("#path").scroll_into_view_if_needed()
    watched.page.locator("#path canvas").first.wait_for()
    path = watched.page.locator("#path").bounding_box()
    assert path["height"] <= path["width"]  # a higher one would cut the axes off at its sides
    watched.assert_no_trouble()
    watched.page.close()


def test_figures_keep_their_height_when_the_window_changes(chromium, full_report):
    watched = Watched(chromium, full_report)
    figures = ("#metrics", "#panel-mean_step .figure", "#panel-auc_by_step .figure", "#panel-false_alarms .figure")
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
    watched = Watched(chromium, full_report)
    watched.page.emulate_media(media="print")
    watched.page.set_viewport_size({"width": 703, "height": 1000})  # of A4 less its margins
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= 703
    for hidden in ("nav", ".chooser", ".controls", ".on-screen"):
        assert not watched.page.locator(hidden).first.is_visible()
    rows = watched.page.locator("#outcomes .panel > .scroll td.number:visible, #summary td.number")
    assert rows.count() > 10
    assert max(box["height"] for box in (cell.bounding_box() for cell in rows.all()[:60])) < 60
    assert rows.evaluate_all("(cells) => cells.every((cell) => getComputedStyle(cell).whiteSpace === 'nowrap')")
    watched.page.close()


def test_a_run_without_effects_image_or_thinking_opens_without_errors(chromium, tmp_path):
    from tests.report.test_build import CASES

    bare = make_runs(4, 1)
    bare[0] = CASES["no effects"][0](bare[0])
    bare[1] = CASES["no image"][0](bare[1])
    bare[2] = CASES["no step at all"][0](bare[2])
    bare[3] = CASES["no thinking step"][0](bare[3])
    watched = Watched(chromium, write_report(bare, tmp_path))
    for number in range(4):
        watched.page.select_option("#run", str(number))
        watched.page.locator("#terms").scroll_into_view_if_needed()
        watched.page.locator("#path").evaluate("(element) => element.parentElement.scrollIntoView()")
        watched.page.wait_for_timeout(150)
    watched.assert_no_trouble()
    watched.page.close()
