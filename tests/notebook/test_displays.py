"""Things display themselves in a notebook: small HTML without scripts, in which nothing that a model says is markup."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import trajkit as tk
from tests.notebook.conftest import HOSTILE, bare, live_step, shown, things, traces, watched
from trajkit.notebook.run import DRAWN
from trajkit.tables import Table

_NAMES = """
trace, watched trace, trace without effects, traces, run table, step, live step, regions, network estimator, linear
estimator, predictor, predictor before fit, step predictor, step predictor before fit, classifier, monitor, monitor that
cannot alarm, monitor of scores,
detectors, policy, table, estimate, auc, comparison, fit, evaluation
"""
NAMES = tuple(_NAMES.replace("\n", " ").strip().split(", "))
VOID = {"img", "br", "line", "circle", "rect", "path"}


class Outline(HTMLParser):
    """Which tags are open, and all that were; raises on one that closes another."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text += data


def outline(html: str) -> Outline:
    found = Outline()
    found.feed(html)
    found.close()
    assert not found.open
    return found


def test_every_kind_of_thing_is_here():
    assert tuple(things()) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_it_is_whole_small_and_without_scripts(name):
    html = shown(things()[name])
    tags = outline(html)
    assert len(html) < 200_000
    assert "script" not in {tag for tag, _ in tags.seen}
    assert not any(key.startswith("on") for _, attributes in tags.seen for key in attributes)
    assert not re.search(r"https?://(?!www\.w3\.org)", html), "nothing is fetched"
    assert len(tags.text) > 15


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("table", "traces")])
def test_its_repr_is_short_and_plain(name):
    text = repr(things()[name])
    assert len(text) < 900
    assert "\n" not in text
    assert "\\x" not in text


def test_the_repr_of_a_run_says_what_it_is():
    assert repr(traces()[1]) == (
        "Trace('validation-1-00000-1': success, 32 steps, 35 regions, estimated effects, question "
        "'follow green from row 3 col 1. what is before the 0?')"
    )
    assert "no effects" in repr(bare(traces()[1]))


def test_a_long_table_is_printed_in_part():
    import pandas as pd

    text = repr(Table(pd.DataFrame({"n": range(100)})))
    assert "… 60 more rows" in text
    assert len(text.splitlines()) == 42


def hostile_run() -> tk.Trace:
    run = watched(traces()[1])
    steps = tuple(replace(step, text=HOSTILE) for step in run.steps)
    return replace(run, steps=steps, question=HOSTILE, answer=HOSTILE, target=HOSTILE, model=HOSTILE)


@pytest.mark.parametrize(
    "thing",
    [hostile_run(), tk.Traces.of([hostile_run()]), hostile_run().steps[0], live_step(HOSTILE)],
    ids=["trace", "traces", "step", "live step"],
)
def test_what_a_model_says_is_text(thing):
    tags = outline(shown(thing))
    assert "<img src=x onerror=alert(1)>" in tags.text
    assert "script" not in {tag for tag, _ in tags.seen}
    assert all(attributes.get("src", "data:image/").startswith("data:image/") for _, attributes in tags.seen)
    assert not set(tags.text) & {"\x1b", "\u202e"}


def test_the_alarm_its_risk_and_the_threshold_are_told():
    text = outline(shown(watched(traces()[2], alarm=3))).text
    assert re.search(r"ALARM after step 4: risk 0\.\d\d, threshold 0\.61", text)
    assert "ALARM" not in outline(shown(watched(traces()[2], alarm=None))).text


def test_the_risk_line_has_a_dashed_threshold_only_where_it_is_known():
    assert "stroke-dasharray" in shown(watched(traces()[2]))
    assert "stroke-dasharray" not in shown(watched(traces()[2], threshold=None))


def test_a_run_without_effects_has_its_image_and_says_why_there_is_no_overlay():
    html = shown(bare(traces()[3]))
    assert html.count("<img") == 1
    assert "This run has no effects" in outline(html).text


def test_a_run_with_effects_has_an_overlay_a_step_and_a_long_one_where_effects_are_strongest():
    run = traces()[3]
    short = replace(run, steps=run.steps[:DRAWN], effects=run.effects[:DRAWN])
    assert shown(short).count("<img") == 2 + DRAWN
    assert "the strongest effects" not in outline(shown(short)).text
    assert run.n_steps > DRAWN
    assert shown(run).count("<img") == 2 + DRAWN
    assert f"Pictures: the {DRAWN} steps with the strongest effects." in outline(shown(run)).text


@pytest.mark.parametrize("image", [None, b"no picture"])
def test_a_run_whose_image_is_not_to_be_had_still_shows(image):
    html = shown(replace(traces()[3], image=image, image_sha256=""))
    assert "<img" not in html
    assert re.search("saved without its image|cannot be shown", outline(html).text)


def test_a_run_of_a_thousand_steps_stays_small_and_says_what_is_left_out():
    run = traces()[3]
    steps = tuple(replace(run.steps[0], text="word " * 500) for _ in range(1000))
    html = shown(replace(run, steps=steps, effects=np.tile(run.effects[:1], (1000, 1))))
    assert len(html) < 200_000
    assert "940 more steps not shown" in outline(html).text


def test_a_run_without_any_step_shows():
    run = traces()[3]
    html = shown(replace(run, steps=(), effects=run.effects[:0], answer="", outcome="unknown", success=None))
    assert "0 thinking steps" in outline(html).text


def test_runs_are_counted_by_how_they_ended_wrong_ones_of_no_known_kind_as_failures():
    text = outline(shown(traces())).text
    assert "success 2,343 65 %" in text
    assert "failure 58 1.6 %" in text
    assert "unknown" not in text


def test_the_runs_that_are_shown_are_of_different_groups():
    from trajkit.notebook.runs import first_of_groups

    assert first_of_groups(list("aabbc")) == [0, 1, 2, 3, 4]
    assert first_of_groups([str(at // 3) for at in range(60)]) == [0, 3, 6, 9, 12, 15]


def test_a_monitor_shows_where_it_alarms_on_the_side_that_alarms():
    above, below = (shown(things()[name]) for name in ("monitor", "monitor of scores"))
    assert re.search(r"alarms\s*above 0\.75", outline(above).text)
    assert re.search(r"alarms\s*below −0\.\d+", outline(below).text)
    for html in (above, below):
        assert 0 < html.count('fill="var(--alarm)"') <= 0.1 * html.count("<circle")
        assert html.count("stroke-dasharray") == 1
    assert "stroke-dasharray" not in shown(things()["monitor that cannot alarm"])


def test_nothing_heavy_is_loaded_to_show_a_run():
    code = (
        "import sys, trajkit as tk; tk.read_traces('data/demo/traces')[0]._repr_html_(); "
        "print({'torch', 'plotly', 'sklearn', 'transformers'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
