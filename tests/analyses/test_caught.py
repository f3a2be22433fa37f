"""Failing runs that are caught: on runs of written reasoning whose slips are seen, or not, by what a monitor reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from analyses import caught as page
from analyses.run_scores import CEILING, LENGTH, SENTENCES, UNCERTAINTY
from tests.analyses.test_ceiling import written_runs
from tests.analyses.test_run_risk import seen
from trajkit.judging.promise import of_new_groups

MONITORS = [CEILING, page.SHIPPED, page.TOLD, UNCERTAINTY, LENGTH, *page.PLAIN, SENTENCES, page.RANDOM]


@pytest.fixture(scope="module")
def alarms():
    rng = np.random.default_rng(0)
    some = [trace for i, trace in enumerate(written_runs(800)) if not trace.success or i % 4 == 0]
    traces = [seen(trace, rng) for trace in some]
    named = [replace(t, group_id=f"{'test' if i % 5 < 2 else 'validation'}-{i}") for i, t in enumerate(traces)]
    return page.watched(named, alpha=0.1, deals=2)


def test_every_monitor_watches_the_same_held_out_runs(alarms):
    assert alarms["monitor"].unique().tolist() == MONITORS
    assert alarms["group_id"].str.startswith("test-").all()
    assert alarms.groupby(["monitor", "deal"])["transcript_id"].nunique().nunique() == 1
    assert alarms.groupby("transcript_id")["failure"].nunique().max() == 1


def test_who_knows_the_scene_catches_most_and_chance_as_many_as_are_promised(alarms):
    table = page.caught(alarms, 200).frame.set_index("monitor")
    power = {name: table.loc[name, "caught"].value for name in MONITORS}
    assert power[CEILING] > 0.5
    assert power[CEILING] > power[SENTENCES] > power[page.RANDOM]
    assert power[page.RANDOM] < 0.35
    share = table.loc[SENTENCES, "of the ceiling's"]
    assert share.value == pytest.approx(power[SENTENCES] / power[CEILING])
    assert share.low < share.value < share.high
    assert all(found.value < 0.25 for found in table["false alarms"])


def test_false_alarms_are_of_a_new_run_of_a_new_scene(alarms):
    """Scenes of unlike numbers of runs, of which unlike shares are good."""
    scenes = {name: f"test-{i % 40 if i % 3 else i % 7}" for i, name in enumerate(alarms["transcript_id"].unique())}
    grouped = alarms.assign(group_id=alarms["transcript_id"].map(scenes))
    ours = grouped[grouped["monitor"] == page.SHIPPED]
    promised = np.mean([of_new_groups(own).rate for _, own in ours.groupby("deal")])
    found = page.caught(grouped, 50).frame.set_index("monitor").loc[page.SHIPPED, "false alarms"]
    assert found.value == pytest.approx(promised)
    assert found.low < found.value < found.high
    good = ours[ours["failure"] == 0]
    assert abs(found.value - good["alarmed"].mean()) > 0.002  # not a share of runs
    by_family = page.by_part(grouped, "task_set", 50, failing=False).frame.set_index("monitor")
    for family, own in ours.groupby("task_set"):
        rates = [of_new_groups(deal).rate for _, deal in own.groupby("deal")]
        assert by_family.loc[page.SHIPPED, family].value == pytest.approx(np.mean(rates))
        spared = own.loc[own["failure"] == 0, "transcript_id"].nunique()
        assert by_family.loc["good runs", family] == str(spared)


def by_hand(late):
    """Failing runs of a scene each, with an alarm so many sentences after the mistake, None for none; and one of no
    mistake in a sentence."""
    rows = [{"late": np.nan if x is None else x, "alarmed": x is not None} for x in late]
    rows.append({"late": np.nan, "alarmed": True})
    both = [pd.DataFrame(rows).assign(monitor=name) for name in (CEILING, page.SHIPPED)]
    both[0]["alarmed"] = True
    frame = pd.concat([one.assign(group_id=[f"test-{i}" for i in range(len(one))]) for one in both], ignore_index=True)
    return frame.assign(deal=0, failure=1.0, outcome="hallucination", task_set="math", transcript_id=frame["group_id"])


def test_the_alarm_is_counted_from_the_first_mistake():
    alarms = by_hand([-1, 0, 2, 2, 3, 4, 9, None, None])
    row = page.caught(alarms, 100).frame.set_index("monitor").loc[page.SHIPPED]
    assert row["caught"].value == pytest.approx(8 / 10)
    assert row["of the ceiling's"].value == pytest.approx(8 / 10)
    assert row["median sentences late"].value == 2
    assert row[page._BEFORE].value == pytest.approx(1 / 7)
    assert row[page._SOON].value == pytest.approx(5 / 7)
    parts = page.lateness(alarms, "outcome", 100).frame.set_index("monitor").loc[page.SHIPPED]
    assert parts["any"].value == parts["hallucination"].value == 2


def test_an_alarm_at_the_mistake_is_not_late(alarms):
    told = alarms[alarms["late"].notna()]
    assert told["alarmed"].all()
    assert (told["failure"] == 1).all()
    assert told.loc[told["monitor"] == CEILING, "late"].median() <= 1


def test_the_page_says_what_could_be_caught_and_how_soon(tmp_path, alarms, capsys):
    page.report(tmp_path / "caught.md", "python -m analyses.caught", alarms, 0.1, 50)
    text = (tmp_path / "caught.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert text.count(f"| {CEILING} |") == 6
    assert "promises 10 % false alarms" in text
    assert "| failing runs |" in text
