"""The page in a real browser, over a real server: live runs of the demo's model, saved runs of its traces."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import socket
import subprocess
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from starlette.responses import PlainTextResponse

import trajkit as tk
from tests.browsing import Watched
from tests.live.conftest import MODEL, RECORDED, listening, messages_about
from tests.report.runs import HOSTILE, make_runs
from trajkit.demo import paths
from trajkit.detection.store import load_detectors
from trajkit.live.access import Access
from trajkit.live.app import Limits, Server
from trajkit.live.saved import SavedRuns
from trajkit.live.view import page_app
from trajkit.traces.labels import read_labels

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")

CURRENT = "[...document.querySelectorAll('.sentences button')].findIndex((one) => one.ariaCurrent === 'true')"
PIXELS = "document.querySelector('.picture').toDataURL()"
N_ROWS = "document.querySelectorAll('.pane .sentences button').length"
N_SAVED = 130


class OnLoop:
    """An application that tells in which loop it runs."""

    def __init__(self, app) -> None:
        self._app, self.loop = app, None

    async def __call__(self, scope, receive, send) -> None:
        self.loop = asyncio.get_running_loop()
        await self._app(scope, receive, send)

    def do(self, work):
        """What `work` returns, called in the thread of the loop."""

        async def called():
            return work()

        return asyncio.run_coroutine_threadsafe(called(), self.loop).result(10)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The first runs of the demo, and some that are strange."""
    runs = [run for run, _ in zip(tk.read_traces(paths.TRACES), range(N_SAVED), strict=False)]
    made = make_runs(3, 1, seed=4)
    strange = [
        replace(made[0], transcript_id="hostile", question=HOSTILE, answer=HOSTILE),
        replace(made[1], transcript_id="bare", image=None, effects=made[1].effects[:, :0], effects_kind=None),
        replace(made[2], transcript_id="no-image", image=None),
    ]
    path = tmp_path_factory.mktemp("traces")
    tk.write_traces([*runs, *strange], path / "traces.parquet")
    return path


@pytest.fixture(scope="module")
def site(local_engine, folder):
    """(server, its application, address): live runs before the saved ones."""
    saved = SavedRuns(folder)
    saved.ask(lambda: load_detectors(paths.DETECTORS))
    server = Server(local_engine, Limits(runs=1, waiting=4), sources=[saved])
    app = OnLoop(server.app())
    with listening(app) as address:
        yield server, app, address
    saved.close()


def asked(address: str, path: str):
    with urllib.request.urlopen(f"{address}/api/{path}") as answer:
        return json.load(answer)


@pytest.fixture(scope="module")
def alarmed(site):
    """The document of the first saved run that alarmed before its last steps."""
    address = site[2]
    for _ in range(200):
        found = asked(address, "runs?alarmed=yes&limit=20")
        if found["runs"]:
            break
        threading.Event().wait(0.05)
    documents = (asked(address, f"runs/{row['id']}") for row in found["runs"])
    return next(one for one in documents if one["alarm"] is not None and one["alarm"] < len(one["steps"]) - 2)


@pytest.fixture(scope="module")
def window(chromium, site):
    """The page, in which tests go from run to run; none of them logs an error or asks another host."""
    watched = Watched(chromium, site[2])
    yield watched
    watched.assert_no_trouble(site[2])
    watched.page.close()


SOME = "document.querySelector('.count').textContent.includes(' of ')"
"""Not all runs are asked for."""
SETTLED = "document.querySelector('.browse .runs').ariaBusy === 'false'"


@pytest.fixture
def open_page(window):
    """Goes to a hash of the page, from the list of all runs."""

    def go(hash_=""):
        window.page.set_viewport_size({"width": 1280, "height": 900})
        window.page.evaluate("document.querySelector('dialog[open]')?.close(); location.hash = ''")
        window.until("[...document.querySelectorAll('.browse .runs a')].some((one) => one.offsetParent)")
        window.until(f"!document.querySelector('.browse select').value && !{SOME} && {SETTLED}")
        window.page.evaluate("(hash) => { location.hash = hash }", hash_)
        if hash_:
            window.until("[...document.querySelectorAll('.pane')].every((one) => one.ariaBusy === 'false')")
        return window

    return go


# ---- a run that grows long -----------------------------------------------------------------------------------------

GROWN = """(n) => {
    const grown = new model.Run({}), waits = [];
    const say = (event) => grown.take({ attempt: 0, kind: "thinking", ...event });
    const told = { event: "step", risk: 0.1 };
    const step = (index, more) => say({ ...told, index, text: `row  ${index}.`, effects: [index, 1], ...more });
    for (let i = 0; i < n; i++) {
      if (i % 3 === 2) step(i); // a step may come before all of its text
      say({ event: "text", text: ` row ${i}` });
      if (i % 3 === 1) waits.push(grown.pending("thinking"));
      say({ event: "text", text: "." });
      if (i % 3 !== 2) step(i);
      waits.push(grown.pending("thinking"));
    }
    const known = [grown.attempts, grown.alarms, charts.range(grown)];
    say({ event: "text", text: "and" });
    const same = [grown.attempts, grown.alarms, charts.range(grown)].map((one, i) => one === known[i]);
    step(n, { alarm: true });
    step(0, { attempt: 1 });
    return { waits: [...new Set(waits)], same, after: [grown.attempts, grown.alarms], high: charts.range(grown)[1] };
}"""


def test_what_follows_from_all_steps_is_worked_out_once_a_step(open_page):
    """And not for each step again, which is in nobody's way before a run has hundreds of them."""
    page = open_page().page
    found = page.evaluate(GROWN, 7)
    assert found["same"] == [True, True, True]
    assert found["after"] == [[0, 1], [7]]
    assert found["high"] == 7
    assert found["waits"] == ["", "row 1", "row 4"]


# ---- a saved run ---------------------------------------------------------------------------------------------------


@pytest.fixture
def one(open_page, alarmed):
    """A page with the run that alarmed."""
    watched = open_page(f"run={alarmed['id']}")
    watched.page.locator(".sentences button").nth(2).wait_for()
    return watched


def test_a_run_begins_at_its_alarm_which_says_risk_threshold_and_what_was_done(one, alarmed):
    page, at = one.page, alarmed["alarm"]
    banner = page.locator(".verdict.alarm")
    assert page.evaluate(CURRENT) == at
    assert f"Alarm after step {at + 1}" in banner.inner_text()
    assert f"{alarmed['threshold']:.2f}" in banner.inner_text()
    page.locator(".sentences button").first.click()
    banner.locator("button").click()
    assert page.evaluate(CURRENT) == at
    assert page.locator(".sentences button").nth(at).locator(".tag.alarm").inner_text() == "▲ alarm"
    assert f"alarm at step {at + 1}" in page.locator(".bystep.risk svg").get_attribute("aria-label")


def test_what_was_asked_answered_and_expected_stands_above(one, alarmed):
    assert one.page.locator("h1").inner_text() == alarmed["question"]
    assert alarmed["answer"] in one.page.locator(".answered").inner_text()
    assert alarmed["target"] in one.page.locator(".answered").inner_text()


def test_clicks_and_keys_move_through_the_steps_and_everything_follows(one, alarmed):
    page, rows = one.page, one.page.locator(".sentences button")
    rows.nth(1).click()
    first, pixels = page.locator(".now").inner_text(), page.evaluate(PIXELS)
    assert first == alarmed["steps"][1]["text"]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(CURRENT) == 2
    assert page.evaluate(PIXELS) != pixels
    assert page.locator(".cursor").first.get_attribute("x1") != "34"
    page.locator("h1").click()
    page.keyboard.press("ArrowUp")
    assert page.evaluate(CURRENT) == 1
    assert page.evaluate(PIXELS) == pixels
    page.keyboard.press("End")
    assert page.evaluate(CURRENT) == rows.count() - 1
    page.keyboard.press("Home")
    assert page.evaluate(CURRENT) == 0


def test_every_step_has_an_address(one, alarmed):
    one.page.locator(".sentences button").nth(1).click()
    assert one.page.url.endswith(f"#run={alarmed['id']}&step=2")
    one.page.reload()
    one.until(f"{CURRENT} === 1")
    one.page.evaluate(f"location.hash = 'run={alarmed['id']}&step=3'")
    one.until(f"{CURRENT} === 2")


def test_effects_are_listed_by_size_and_point_at_their_region(one, alarmed):
    page = one.page
    step, k = alarmed["alarm"], alarmed["n_regions"]
    raw = np.frombuffer(base64.b64decode(alarmed["effects"]["values"]), "<i2").reshape(-1, k)
    values = raw[step] * alarmed["effects"]["unit"]
    shown = page.locator(".bars button")
    regions = [int(region) for region in shown.evaluate_all("(all) => all.map((one) => one.dataset.region)")]
    assert regions == np.argsort(-np.abs(values), kind="stable")[:8].tolist()
    strongest = regions[0]
    said = shown.first.get_attribute("aria-label").replace("−", "-")
    assert float(re.search(r"[+-][\d.]+", said)[0]) == pytest.approx(values[strongest], abs=0.006)
    before = page.evaluate(PIXELS)
    shown.first.hover()
    assert page.evaluate(PIXELS) != before
    page.mouse.move(0, 0)
    assert page.evaluate(PIXELS) == before
    point_at(page, alarmed, strongest)
    assert f"region {strongest}" in page.locator(".stage .tip").inner_text()
    assert "pointed" in shown.first.get_attribute("class")


def regions_of(document) -> np.ndarray:
    """The region of each pixel of the map, (height, width)."""
    pairs = np.frombuffer(base64.b64decode(document["map"]["runs"]), "<u2").reshape(-1, 2)
    return np.repeat(pairs[:, 0], pairs[:, 1]).reshape(document["map"]["height"], document["map"]["width"])


def most_colourful(document) -> int:
    """The step whose strongest region, which supports it by more than a nat, has most of the picture's colours: where
    the alarm comes there may be a smudge, which has none."""
    raw = np.frombuffer(base64.b64decode(document["effects"]["values"]), "<i2").reshape(-1, document["n_regions"])
    values = raw * document["effects"]["unit"]
    picture = Image.open(io.BytesIO(base64.b64decode(document["image"]["url"].split(",")[1]))).convert("RGB")
    cells = regions_of(document)
    colours = np.ptp(np.asarray(picture.resize(cells.shape[::-1])).astype(int), axis=2) > 90
    coloured = np.bincount(cells[colours], minlength=document["n_regions"])
    return int(np.argmax(coloured[values.argmax(1)] * (values.max(1) > 1)))


def point_at(page, document, region: int) -> None:
    """Move the pointer to a pixel of a region, in the image."""
    cells = regions_of(document)
    rows, columns = np.nonzero(cells == region)
    middle = len(rows) // 2
    page.locator(".picture").scroll_into_view_if_needed()
    box = page.locator(".picture").bounding_box()
    page.mouse.move(
        box["x"] + box["width"] * (columns[middle] + 0.5) / cells.shape[1],
        box["y"] + box["height"] * (rows[middle] + 0.5) / cells.shape[0],
    )


def test_the_spotlight_tells_support_from_the_rest_without_hue(one, alarmed):
    """Where nothing supports, the picture has lost its colours; the strongest region has kept them."""
    page = one.page
    page.locator(".sentences button").nth(most_colourful(alarmed)).click()
    share = """(region) => {
        const canvas = document.querySelector('.picture'), { width, height } = canvas;
        const data = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        let coloured = 0;
        for (let i = 0; i < data.length; i += 4) {
            const rgb = data.slice(i, i + 3);
            coloured += Math.max(...rgb) - Math.min(...rgb) > 90;
        }
        return coloured / (width * height);
    }"""
    spotlit = page.evaluate(share)
    page.keyboard.press("m")
    page.keyboard.press("m")
    plain = page.evaluate(share)
    assert page.locator(".choice button[aria-pressed=true]").first.inner_text() == "Image only"
    page.keyboard.press("m")
    assert 0 < spotlit < 0.6 * plain


def test_the_path_is_whole_however_it_is_turned_and_its_axes_are_those_of_numpy(one, alarmed):
    page, canvas = one.page, one.page.locator(".turn")
    canvas.scroll_into_view_if_needed()
    raw = np.frombuffer(base64.b64decode(alarmed["effects"]["values"]), "<i2").reshape(-1, alarmed["n_regions"])
    thinking = [step["kind"] == "thinking" for step in alarmed["steps"]]
    effects = (raw * alarmed["effects"]["unit"])[np.array(thinking)]
    space = tk.trajectory.Space.fit(effects, top=32)
    found = page.evaluate("(rows) => path.components(rows)", effects.tolist())
    assert np.allclose(found["share"], space.explained, atol=1e-6)
    assert np.allclose(np.abs(found["points"]), np.abs(space.transform(effects)), atol=1e-5)
    rim = """() => {
        const canvas = document.querySelector('.turn'), { width, height } = canvas, context = canvas.getContext('2d');
        const strips = [[0, 0, width, 1], [0, height - 1, width, 1], [0, 0, 1, height], [width - 1, 0, 1, height]];
        return strips.some((strip) => context.getImageData(...strip).data.some((one, i) => i % 4 === 3 && one));
    }"""
    pictures = set()
    canvas.focus()
    for key in ["ArrowRight"] * 7 + ["ArrowUp"] * 9 + ["ArrowLeft"] * 4:
        page.keyboard.press(key)
        assert not page.evaluate(rim)
        pictures.add(page.evaluate("document.querySelector('.turn').toDataURL()"))
    assert len(pictures) > 15
    assert page.evaluate(CURRENT) == alarmed["alarm"]  # those keys were for the path


def test_a_click_in_a_chart_goes_to_that_step(one, alarmed):
    box = one.page.locator(".bystep.risk svg").bounding_box()
    one.page.mouse.click(box["x"] + 34 + (box["width"] - 48) * 0.5 / len(alarmed["steps"]), box["y"] + 60)
    assert one.page.evaluate(CURRENT) == 0


RISKS = {
    "high at the end": [0.2, 0.3, 0.9, 0.8, 0.7, 0.65, 0.63],
    "high at the start": [0.65, 0.63, 0.7, 0.3, 0.2, 0.1, 0.1],
    "near it all along": [0.63, 0.66, 0.64, 0.7, 0.65, 0.66, 0.64],
}


@pytest.mark.parametrize("name", RISKS)
def test_the_name_of_the_threshold_lies_on_no_risk(one, name):
    """Drawn of a run with risks of our own; the path is sampled where the browser has it."""
    over = one.page.evaluate(
        """(risks) => {
            const chart = new charts.BySteps("risk", "risk", 130, () => {}), holder = document.createElement("div");
            holder.style.width = "320px";
            holder.append(chart.element);
            document.querySelector(".risks").append(holder);
            const steps = risks.map((risk) => ({ risk, attempt: 0 }));
            const words = { watches: "failure", name: String, number: (i) => i + 1, over: () => false };
            chart.set({ steps, threshold: 0.61, alarms: [], ...words });
            const { x, y, width, height } = chart.element.querySelector(".limit text").getBBox();
            const line = chart.element.querySelector(".line"), part = line.getTotalLength() / 399;
            const points = Array.from({ length: 400 }, (_, i) => line.getPointAtLength(part * i));
            holder.remove();
            const over = (one) => one.x > x && one.x < x + width && one.y > y + 2 && one.y < y + height - 2;
            return points.filter(over).length;
        }""",
        RISKS[name],
    )
    assert over == 0


def test_pictures_say_what_they_show_to_those_who_do_not_see_them(one):
    one.page.locator(".sentences button").first.click()  # a reading, whatever is said at the alarm
    said = one.page.locator(".picture").get_attribute("aria-label")
    assert re.search(r"rests on region \d+, [a-z ]+ \(\+[\d.]+ nats\)", said)
    assert "variance" in one.page.locator(".turn").get_attribute("aria-label")


RUN = """({effects, halves}) => {
    const run = new model.Run({});
    run.steps = effects.map((_, index) => ({index, kind: 'thinking', text: '.'}));
    Object.assign(run, {effects, halves: halves || effects.map(() => null)});
    return """


@pytest.mark.parametrize(
    ("halves", "said"),
    [
        (None, "rests on region 0 (+2.00 nats), region 1 (+1.20 nats); has against it region 2 (−0.90 nats)"),
        ([0.5, 1.3, 0.4], "rests on region 0 (+2.00 ± 0.50 nats); has against it region 2 (−0.90 ± 0.40 nats)"),
        (
            [2.1, 1.3, 1.0],
            "may rest on no region: 0 is within the interval of region 0 (+2.00 ± 2.10 nats), region 1 (+1.20 ± 1.30 "
            "nats), region 2 (−0.90 ± 1.00 nats)",
        ),
    ],
)
def test_a_step_rests_on_what_its_intervals_tell_from_nothing(window, halves, said):
    given = {"effects": [[2.0, 1.2, -0.9, 0.1]], "halves": halves and [[*halves, 0.0]]}
    assert window.page.evaluate(RUN + "run.rests(0); }", given) == said


def test_no_whisker_is_cut_on_the_scale_of_the_run(window):
    given = {"effects": [[9.0, 0.1, -0.2], [0.3, 0.2, 8.0]], "halves": [[1.0, 0.4, 0.1], [0.2, 0.9, 0.5]]}
    low, high = window.page.evaluate(RUN + "charts.range(run); }", given)
    ends = np.array(given["effects"])[..., None] + np.array(given["halves"])[..., None] * [-1, 1]
    assert (low, high) == pytest.approx((ends.min(), ends.max()))


def test_a_concentration_of_effects_that_are_next_to_none_is_hollow_and_said(one, alarmed):
    raw = np.frombuffer(base64.b64decode(alarmed["effects"]["values"]), "<i2").reshape(-1, alarmed["n_regions"])
    largest = np.abs(raw * alarmed["effects"]["unit"]).max(1)
    known = [step["concentration"] is not None for step in alarmed["steps"]]
    weak = (largest < 0.5)[known]
    dots = one.page.locator(".bystep.concentration circle")
    assert dots.evaluate_all("(all) => all.map((one) => one.classList.contains('weak'))") == weak.tolist()
    said = one.page.locator(".bystep.concentration svg").get_attribute("aria-label")
    assert said.count("of effects under 0.5 nats") == weak.sum() > 0
    assert one.page.locator(".bystep.risk .weak").count() == 0


def test_the_legend_says_which_effects_the_spotlight_leaves_out(one):
    legend = "document.querySelector('.legend').textContent"
    full, least = (float(found) for found in re.findall(r"([\d.]+) nats", one.page.evaluate(legend)))
    assert least == pytest.approx(max(0.25, full * 0.12 ** (1 / 0.7)), abs=0.006)
    one.page.keyboard.press("s")
    full, least = (float(found) for found in re.findall(r"([\d.]+) nats", one.page.evaluate(legend)))
    one.page.keyboard.press("s")
    assert least == pytest.approx(full * 0.12 ** (1 / 0.7), abs=0.006)


def test_a_risk_is_told_from_its_threshold_and_few_points_are_said_to_fit_any_axes(window):
    assert window.page.evaluate("[words.apart(0.6142, 0.6119), words.apart(0.7, 0.6), words.apart(-2, -2)]") == [
        ["0.614", "0.612"],
        ["0.70", "0.60"],
        ["−2.00", "−2.00"],
    ]
    said = """(n) => run.Pane.prototype.pathSaid.call({
        path: {share: [0.6, 0.4, 0]}, run: {effects: [[1]]}, thoughts: [0]}, n)"""
    assert "Three axes hold any 4 points whole." in window.page.evaluate(said, 4)
    assert "whole" not in window.page.evaluate(said, 5)


def test_a_step_that_is_beyond_the_calibration_adds_a_note_to_its_run_once(window):
    notes = window.page.evaluate("""() => {
        const run = new model.Run({});
        const step = {event: 'step', effects: null, half_width: null, kind: 'thinking', text: 'a', attempt: 0};
        for (const note of [undefined, 'Beyond.', 'Beyond.']) run.take({...step, note});
        return [run.notes, run.steps.some((one) => 'note' in one)];
    }""")
    assert notes == [["Beyond."], False]


def test_markup_in_what_a_model_wrote_stays_text(open_page):
    page = open_page("run=hostile&step=1").page
    page.locator(".sentences button").nth(1).wait_for()
    assert page.locator(".now").inner_text() == HOSTILE
    assert page.locator("h1").inner_text() == HOSTILE
    assert page.locator("#app script, #app b b, .now *").count() == 0


@pytest.mark.parametrize("name", ["bare", "no-image"])
def test_a_run_without_effects_or_image_says_so(open_page, name):
    page = open_page(f"run={name}").page
    page.locator(".sentences button").nth(1).wait_for()
    assert "without its image" in page.locator(".troubles").inner_text()
    if name == "bare":
        assert "This run has no effects to draw." in page.locator(".troubles").inner_text()
        for panel in (".effects", ".trajectory", ".risks", ".levels"):
            assert not page.locator(panel).is_visible()
    else:
        assert page.locator(".bars button").count() == 8


def test_an_unknown_run_is_said_in_words(open_page):
    watched = open_page("run=nobody")
    watched.expected.append("404")
    watched.until("document.querySelector('.pane .empty').textContent.includes('no such run')")


# ---- the list ------------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(open_page):
    watched = open_page()
    watched.page.locator(".runs a").nth(49).wait_for()
    return watched


def test_a_list_comes_in_parts_as_it_is_scrolled(listed):
    assert listed.page.locator(".runs a").count() == 50
    assert listed.page.locator(".count").inner_text() == f"{N_SAVED + 3} runs"
    for n in (100, N_SAVED + 3):
        listed.page.evaluate("scrollTo(0, document.body.scrollHeight)")
        listed.until(f"document.querySelectorAll('.browse .runs a').length === {n}")


def test_filters_with_counts_search_and_sort_are_the_servers_and_stand_in_the_address(listed, site):
    page = listed.page
    box = page.locator(".filters label", has_text="hallucination").first
    n = int(box.locator(".n").inner_text())
    box.click()
    listed.until(f"document.querySelector('.count').textContent.startsWith('{n} of')")
    assert "outcome=hallucination" in page.url
    page.get_by_label("Search", exact=True).fill("row")
    listed.until("location.hash.includes('search=row')")
    page.get_by_label("Sort by").select_option("n_steps")
    listed.until("location.hash.includes('sort=n_steps')")
    wanted = [row["id"] for row in asked(site[2], "runs?outcome=hallucination&search=row&sort=n_steps")["runs"]]
    ids = "[...document.querySelectorAll('.browse .runs a')].map((one) => one.dataset.id).join()"
    listed.until(f"{ids} === {json.dumps(','.join(wanted))}")
    page.reload()
    listed.until(f"document.querySelectorAll('.browse .runs a').length === {len(wanted)}")
    assert page.get_by_label("Search", exact=True).input_value() == "row"


def test_a_row_says_its_run_steps_risk_and_alarm_in_any_window_without_one_over_another(listed):
    page = listed.page
    said = page.locator(".browse .runs .sub").first.inner_text()
    assert said.split("  ·  ")[0] == page.locator(".browse .runs a").first.get_attribute("data-id")
    listed.page.evaluate("location.hash = 'alarmed=yes'")
    listed.until("document.querySelector('.count').textContent.includes(' of ')")
    assert "largest risk" in page.locator(".scale").inner_text()
    boxes = """[...document.querySelector('.browse .runs a').children].map((one) => one.getBoundingClientRect())
        .map((box) => [box.left, box.top, box.right, box.bottom])"""
    for width in (1280, 844, 390):
        page.set_viewport_size({"width": width, "height": 700})
        parts = page.evaluate(boxes)
        assert all(right > left and bottom > top for left, top, right, bottom in parts)
        assert max(part[2] for part in parts) <= width
        for i, (left, top, right, bottom) in enumerate(parts):
            assert not any(a < right and c > left and b < bottom and d > top for a, b, c, d in parts[:i])
        risk, row = page.locator(".browse .runs .risk").first, page.locator(".browse .runs a").first
        ends = [one.evaluate("(one) => one.getBoundingClientRect().right") for one in (risk, row)]
        assert width > 900 or ends[1] - ends[0] < 15  # in line down the list


def test_what_is_printed_of_a_list_says_what_was_asked_for(listed):
    page = listed.page
    assert not page.locator(".on-paper").is_visible()
    page.evaluate("location.hash = 'outcome=success&alarmed=no&sort=risk'")
    listed.until(f"{SOME} && {SETTLED}")
    page.emulate_media(media="print")
    text = page.locator(".on-paper").inner_text()
    page.emulate_media(media="screen")
    for part in ("outcome: success", "alarm: no alarm", "sorted by risk, falling", "here the first 50"):
        assert part in text


def test_the_arrows_lead_from_what_is_searched_to_the_runs_and_back(listed, alarmed):
    page = listed.page
    page.keyboard.press("/")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement === document.querySelector('.browse .runs a')")
    page.keyboard.press("ArrowUp")
    assert page.evaluate("document.activeElement.type") == "search"
    page.evaluate("(id) => { location.hash = 'run=' + id }", alarmed["id"])
    listed.until("[...document.querySelectorAll('.pane')].every((one) => one.ariaBusy === 'false')")
    page.keyboard.press("c")
    listed.until("document.querySelector('dialog[open] .runs button') !== null")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    listed.until("location.hash.includes('with=')")


def test_a_run_opens_from_the_list_and_back_leads_to_where_one_was(listed):
    page = listed.page
    row = page.locator(".browse .runs a").nth(30)
    row.scroll_into_view_if_needed()
    asks, before = row.locator(".asks").inner_text(), page.evaluate("scrollY")
    row.click()
    listed.until(f"document.querySelector('.pane h1').textContent === {json.dumps(asks)}")
    page.keyboard.press("ArrowRight")
    listed.until("document.querySelectorAll('.pane .sentences button').length > 0")
    assert page.locator(".back").is_visible()
    page.go_back()
    listed.until(f"document.querySelector('.pane h1').textContent === {json.dumps(asks)}")
    page.go_back()
    listed.until("!document.querySelector('.browse').hidden")
    assert page.evaluate("scrollY") == before
    assert page.locator(".browse .runs a").count() >= 50


def test_slash_searches_escape_leaves_and_question_mark_helps(listed):
    page = listed.page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.type") == "search"
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.locator("dialog[open] kbd").count() > 10
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


# ---- two runs, labels ----------------------------------------------------------------------------------------------


def test_two_runs_stand_side_by_side_on_one_scale_each_at_its_own_step(one, alarmed):
    page = one.page
    page.keyboard.press("c")
    same = page.locator("dialog[open] .runs button:has(.same)").first
    same.click()
    one.until("document.querySelectorAll('.pane:not([hidden]) .sentences').length === 2")
    one.until("document.querySelectorAll('.pane')[1].querySelectorAll('.sentences button').length > 1")
    one.until("document.querySelector('.tags').textContent.includes('both of the same image')")
    panes = page.locator(".pane")
    scales = [re.search(r"[\d.]+ nats", pane.locator(".legend").inner_text())[0] for pane in panes.all()]
    assert scales[0] == scales[1]
    widths = [
        picture.evaluate("(one) => one.getBoundingClientRect().width") for picture in page.locator(".picture").all()
    ]
    assert abs(widths[0] - widths[1]) < 1
    panes.nth(1).locator(".sentences button").first.click()
    assert panes.nth(0).locator("[aria-current=true] .number").inner_text() == str(alarmed["alarm"] + 1)
    assert panes.nth(1).locator("[aria-current=true] .number").inner_text() == "1"
    assert "step2=1" in page.url
    page.keyboard.press("ArrowDown")  # in the one that was touched last
    one.until("location.hash.includes('step2=2')")
    panes.nth(1).get_by_label("Close this run").click()
    one.until("document.querySelectorAll('.pane:not([hidden])').length === 1")
    assert "with=" not in page.url


def test_a_label_by_hand_is_saved_at_once_and_takes_the_place_of_the_outcome(open_page, site, folder, alarmed):
    watched = open_page(f"run={alarmed['id']}")
    page = watched.page
    page.locator(".sentences button").nth(1).wait_for()
    watched.until("!document.querySelector('.labels').hidden")
    page.keyboard.press("2")
    watched.until("document.querySelector('.labels [aria-pressed=true]').textContent === 'reasoning failure'")
    assert read_labels(folder) == {alarmed["id"]: "reasoning_failure"}
    assert page.locator(".tags .outcome").inner_text() == "reasoning failure"
    page.get_by_role("button", name="none", exact=True).click()
    watched.until("document.querySelector('.labels [aria-pressed=true]').textContent === 'none'")
    assert read_labels(folder) == {}


def test_a_label_that_cannot_be_saved_is_said(open_page, folder, alarmed):
    watched = open_page(f"run={alarmed['id']}")
    watched.expected.append("409")
    watched.page.locator(".sentences button").nth(1).wait_for()
    watched.until("!document.querySelector('.labels').hidden")
    broken = folder / "labels.json"
    before = broken.read_bytes() if broken.exists() else None
    broken.write_text("no labels")
    try:
        watched.page.keyboard.press("1")
        watched.until("document.querySelector('.refused').textContent.includes('not saved')")
    finally:
        broken.unlink() if before is None else broken.write_bytes(before)


# ---- a live run ----------------------------------------------------------------------------------------------------


def test_a_run_of_the_model_appears_step_by_step(open_page, site):
    address = site[2]
    watched = open_page()
    watched.page.mouse.move(0, 0)  # a list that is pointed at, or where a row has the focus, stays as it is
    watched.page.evaluate("document.activeElement.blur()")
    body = {"messages": messages_about("s00-1"), "model": MODEL, "stream": True, "seed": 3}
    request = urllib.request.Request(
        f"{address}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(lambda: urllib.request.urlopen(request).read())
        watched.until("document.querySelector('.runs .state') !== null", seconds=20)
        watched.page.locator(".runs a:has(.state)").first.click()
        answer.result(60)
    watched.until("document.querySelector('.tags .state')?.textContent === 'ended'")
    rows = watched.page.locator(".sentences button")
    told = [json.loads(line[6:]) for line in answer.result().decode().splitlines() if line.startswith("data: {")]
    steps = [chunk["trajkit"] for chunk in told if "step" in chunk.get("trajkit", {})]
    assert len(steps) > 2
    watched.until(f"{N_ROWS} === {len(steps)}")
    assert rows.locator(".said").first.inner_text() == steps[0]["text"]
    assert watched.page.locator(".bars button").count() == 8
    assert re.search(
        r"[+−][\d.]+ ± [\d.]+ nats", watched.page.locator(".bars button").first.get_attribute("aria-label")
    )
    assert watched.page.locator(".writing").is_hidden()


class Told:
    """A live run that is told step by step, what a saved one holds."""

    def __init__(self, site, document) -> None:
        self.server, self.app, _ = site
        self.document = document
        self.log = self.app.do(lambda: self.server.history.begin(document["question"], document["model"]))

    def add(self, event: str, **told) -> None:
        self.app.do(lambda: self.log.add(event, told))

    def start(self) -> None:
        known = ("image", "map", "n_regions", "effects_kind", "threshold", "watches", "notes")
        self.add("start", **{**self.log.row, **{name: self.document[name] for name in known}, "state": "running"})

    def step(self, at: int, attempt: int = 0, **changes) -> None:
        step, k = self.document["steps"][at], self.document["n_regions"]
        raw = np.frombuffer(base64.b64decode(self.document["effects"]["values"]), "<i2").reshape(-1, k)
        effects = [round(float(one), 6) for one in raw[at] * self.document["effects"]["unit"]]
        self.add("text", kind=step["kind"], text=step["text"] + " ", attempt=attempt)
        self.add("step", **{**step, "attempt": attempt, "effects": effects, "half_width": None} | changes)

    def end(self, **changes) -> None:
        self.add("end", **{"state": "ended", "reason": "", "stopped": False, "answer": "7", "n_tokens": 50} | changes)


@pytest.fixture
def told(site, open_page, alarmed):
    """(a live run that has begun, a page that shows it)"""
    run = Told(site, alarmed)
    run.start()
    watched = open_page(f"run={run.log.id}")
    watched.until(f"{N_ROWS} === 0")
    yield run, watched
    if not run.log.over:
        run.end()


def test_the_newest_step_is_followed_until_another_is_picked_and_again_when_asked(told):
    run, watched = told
    for n in range(3):
        run.step(n)
        watched.until(f"{N_ROWS} === {n + 1} && {CURRENT} === {n}")
    watched.page.locator(".sentences button").first.click()
    run.step(3)
    watched.until(f"{N_ROWS} === 4")
    assert watched.page.evaluate(CURRENT) == 0
    watched.page.get_by_role("button", name="Follow the newest").click()
    assert watched.page.evaluate(CURRENT) == 3
    assert "step=" not in watched.page.url
    run.step(4)
    watched.until(f"{CURRENT} === 4")


def test_what_is_no_finished_sentence_yet_is_seen_while_it_is_written(told):
    run, watched = told
    run.step(0)
    run.add("text", kind="thinking", text="then i look <b>at", attempt=0)
    watched.until("document.querySelector('.writing').textContent === 'then i look <b>at'")
    assert watched.page.locator(".writing b").count() == 0
    run.add("text", kind="thinking", text="</b> the", attempt=0)
    watched.until("document.querySelector('.writing').textContent === 'then i look <b>at</b> the'")


def test_an_alarm_comes_with_its_reason_and_what_was_done_and_is_announced(told, alarmed):
    run, watched = told
    at = alarmed["alarm"]
    for n in range(at):
        run.step(n)
    watched.until(f"{N_ROWS} === {at}")
    assert "No alarm so far" in watched.page.locator(".verdict").inner_text() or at == 0
    run.step(
        at,
        decision={
            "step": at + 1,
            "action": "stop",
            "reason": "the risk is too high",
            "verdict": {},
            "keep_tokens": 0,
            "keep_steps": 0,
        },
    )
    watched.until("document.querySelector('.verdict.alarm') !== null")
    said = watched.page.locator(".verdict.alarm").inner_text()
    assert f"Alarm after step {at + 1}" in said
    assert "What was done: the run was stopped" in said
    watched.until(f"document.getElementById('urgent').textContent.includes('Alarm after step {at + 1}')")
    run.end(state="stopped", stopped=True, reason="its policy stopped it", answer="")
    watched.until("document.querySelector('.troubles').textContent === 'Its policy stopped it.'")
    assert watched.page.locator(".answered").first.inner_text() == "No answer"


def test_attempts_are_set_apart(told):
    run, watched = told
    run.step(0)
    run.step(0, attempt=1)
    watched.until(f"{N_ROWS} === 2")
    assert watched.page.locator(".again").all_inner_texts()[0] == "Asked again: attempt 2"
    assert watched.page.locator(".where").inner_text().startswith("Attempt 2, step 1")


def test_success_that_is_sure_enough_is_good_news(site, open_page, alarmed):
    run = Told(site, {**alarmed, "watches": "success"})
    run.start()
    run.step(alarmed["alarm"])
    watched = open_page(f"run={run.log.id}")
    watched.until("document.querySelector('.verdict.good') !== null")
    assert "Enough after" in watched.page.locator(".verdict.good").inner_text()
    assert watched.page.locator(".verdict.alarm").count() == 0
    run.end()


def test_a_run_that_goes_on_unexplained_says_so(told):
    run, watched = told
    run.step(0)
    run.add("unexplained", message="the estimator died.")
    watched.until("document.querySelector('.troubles').textContent.includes('the estimator died.')")


def test_a_page_goes_on_without_a_gap_after_the_server_has_been_away(chromium, local_engine, alarmed):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = Server(local_engine)
    app = OnLoop(server.app())
    with listening(app, port, grace=1) as address:
        asked(address, "runs")
        run = Told((server, app, address), alarmed)
        run.start()
        run.step(0)
        watched = Watched(chromium, f"{address}/#run={run.log.id}")
        watched.until(f"{N_ROWS} === 1")
    watched.until("document.querySelector('.connection').textContent.includes('Connection lost, trying again')")
    refused = "performance.getEntriesByType('resource').some((one) => one.responseStatus === 503)"
    with listening(PlainTextResponse("starting", 503), port):
        watched.until(refused, seconds=15)  # after which the browser itself gives up, and the page begins anew
    with listening(app, port):
        asked(address, "runs")
        for n in range(1, 4):
            run.step(n)
        watched.until(f"{N_ROWS} === 4", seconds=15)
        said = watched.page.locator(".sentences .said").evaluate_all("(all) => all.map((one) => one.firstChild.data)")
        assert said == [step["text"] for step in alarmed["steps"][:4]]
        assert watched.page.locator(".connection").is_hidden()
        run.end()
    watched.page.close()


# ---- everywhere ----------------------------------------------------------------------------------------------------


def test_the_policy_of_the_page_is_strict(site):
    with urllib.request.urlopen(site[2]) as answer:
        policy, text = answer.headers["Content-Security-Policy"], answer.read().decode()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"style=|onclick=|<script>|https?://", text)


@pytest.mark.parametrize("hash_", ["", "run={id}", "run={id}&with=hostile"])
def test_nothing_is_wider_than_its_window(open_page, alarmed, hash_):
    watched = open_page(hash_.format(**alarmed))
    shown = ".browse .runs a" if not hash_ else ".sentences button"
    watched.until(f"[...document.querySelectorAll('{shown}')].some((one) => one.offsetParent)")
    for width in (390, 768, 1100, 1920):
        watched.page.set_viewport_size({"width": width, "height": 900})
        watched.page.wait_for_timeout(50)
        assert watched.page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_is_dark_where_that_is_wanted_and_light_on_paper_where_all_is_printed(open_page, alarmed):
    watched = open_page(f"run={alarmed['id']}")
    page = watched.page
    ground, light = "getComputedStyle(document.body).backgroundColor", page.evaluate(PIXELS)
    page.emulate_media(color_scheme="dark")
    watched.until(f"{ground} === 'rgb(28, 28, 28)'")
    watched.until(f"{PIXELS} !== {json.dumps(light)}")
    page.emulate_media(media="print", color_scheme="dark")
    page.set_viewport_size({"width": 703, "height": 500})
    watched.until(f"{ground} === 'rgb(255, 255, 255)'")
    assert page.evaluate("document.documentElement.scrollWidth") <= 703
    assert not page.locator(".topbar").is_visible()
    assert page.evaluate("getComputedStyle(document.querySelector('.scrolled')).maxHeight") == "none"
    page.emulate_media(media="screen", color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    watched.until(f"{PIXELS} === {json.dumps(light)}")


def test_a_server_without_runs_says_how_to_make_one_and_that_makes_one(chromium, local_engine, tmp_path):
    with listening(Server(local_engine)) as address:
        watched = Watched(chromium, address)
        watched.until("document.querySelector('.browse .empty h2')?.textContent === 'No runs yet'")
        command = watched.page.locator(".empty pre").inner_text()
        assert f"curl -N {address}/v1/chat/completions" in command
        shutil.copy(RECORDED / "s00.png", tmp_path / "IMAGE.png")
        said = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert '"step": 0' in said.stdout
        watched.until("document.querySelectorAll('.browse .runs a').length === 1")
        watched.assert_no_trouble(address)
        watched.page.close()


def test_a_page_without_the_servers_token_says_how_to_get_it(chromium, folder):
    saved = SavedRuns(folder)
    with listening(page_app([saved], Access.at("127.0.0.1", "secret"))) as address:
        watched = Watched(chromium, f"{address}/?token=secret")
        watched.until("document.querySelectorAll('.browse .runs a').length === 50")
        watched.page.context.clear_cookies()
        watched.page.locator(".browse .runs a").first.click()
        watched.until("document.querySelector('.pane .empty').textContent.includes('/?token=')")
        watched.page.close()
    saved.close()
