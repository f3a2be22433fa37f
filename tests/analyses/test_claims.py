"""Claims put to runs whose truth is planted, and the page about them."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from analyses import claims as page
from analyses.claimed import CLAIMS, FAILING, SHARES, STEPS, put_to_runs, verdict
from tests.detection.world import make_runs, make_trace
from trajkit.runs.kernel import Wanted
from trajkit.runs.table import run_table

KINDS = np.array(["success", "hallucination", "success", "reasoning_failure"])
BOOT = 200


def made_frame(n=320, seed=0):
    """Failing runs are half as long again. The path is as long as the run is; tortuosity is higher where a run fails,
    at every step; concentration is steadier where it fails; its level says nothing."""
    rng = np.random.default_rng(seed)
    parts = []
    for i in range(n):
        outcome = KINDS[i % 4]
        bad = outcome != "success"
        steps = int(rng.integers(24, 37) if bad else rng.integers(18, 31))
        facts = {"transcript_id": f"run-{i:03d}", "group_id": f"scene-{i // 2:03d}", "task_set": "math", "form": "sum"}
        at = np.arange(1, steps + 1)
        parts.append(
            pd.DataFrame(
                {
                    **facts,
                    "outcome": outcome,
                    "success": not bad,
                    "step": at,
                    "path_length": at + rng.normal(0, 0.5),
                    "tortuosity": 5 + 1.5 * bad + rng.normal(),
                    "concentration_mean": rng.normal(size=steps),
                    "concentration_sd": 1 - 0.9 * bad + rng.normal(0, 0.5),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def frame():
    return made_frame()


@pytest.fixture(scope="module")
def found(frame):
    return put_to_runs(frame, False, BOOT)


def verdicts(found):
    return {
        (claim.measure, claim.more, claim.less, claim.share): verdict(found[found["claim"] == i], claim)
        for i, claim in enumerate(CLAIMS)
    }


def test_a_planted_effect_is_found_at_steps(found) -> None:
    assert verdicts(found)["tortuosity", FAILING, "success", 0.3] == "holds"
    steps = found[(found["test"] == "step") & (found["claim"] == 1)]
    assert steps["at"].tolist() == list(STEPS)
    assert (steps["auc"] > 0.75).all()
    assert (steps["n_more"] == 160).all()


def test_an_effect_that_is_only_length_is_called_so(found) -> None:
    for kind in (FAILING, "hallucination", "reasoning_failure"):
        assert verdicts(found)["path_length", kind, "success", 1.0] == "holds, by length"
    own = found[found["claim"] == 0].set_index(["test", "at"])["auc"]
    assert own["share", 1.0] > 0.85
    assert own["length", 1.0] > 0.85
    assert own["matched", 1.0] == pytest.approx(0.5, abs=0.08)


def test_what_says_nothing_is_null_and_what_is_reversed_is_called_so(found) -> None:
    told = verdicts(found)
    assert told["concentration_mean", "hallucination", "success", 1.0] == "null"
    assert told["concentration_sd", "success", "hallucination", 1.0] == "holds"
    assert told["concentration_sd", "reasoning_failure", "success", 1.0] == "the other way round"
    assert told["concentration_sd", "reasoning_failure", "hallucination", 1.0] == "null"  # both are as steady


def test_what_goes_with_the_form_of_the_question_is_nothing_within_it(frame) -> None:
    """Questions of one form fail and have winding paths, whatever becomes of the run."""
    rng = np.random.default_rng(1)
    run = frame["transcript_id"].str[4:].astype(int).to_numpy()
    often = np.where(frame["success"], rng.random(320)[run] < 0.2, rng.random(320)[run] < 0.8)
    mixed = frame.assign(form=np.where(often, "often", "seldom"), tortuosity=2.0 * often + rng.normal(size=320)[run])
    told = {within: verdicts(put_to_runs(mixed, within, BOOT)) for within in (False, True)}
    assert told[False]["tortuosity", FAILING, "success", 1.0] == "holds"
    assert told[True]["tortuosity", FAILING, "success", 1.0] == "null"


def test_an_effect_that_comes_at_the_end_is_not_there_at_a_step(frame) -> None:
    last = frame["step"] > 16
    late = frame.assign(tortuosity=np.where(last, frame["tortuosity"], 5.0))
    assert verdicts(put_to_runs(late, False, BOOT))["tortuosity", FAILING, "success", 1.0] == "not at a step"


def test_a_claim_that_is_told_at_the_end_and_reversed_on_the_way_turns_round(frame) -> None:
    last = frame.groupby("transcript_id")["step"].transform("max") == frame["step"]
    turned = frame.assign(tortuosity=np.where(last, frame["tortuosity"], -frame["tortuosity"]))
    assert verdicts(put_to_runs(turned, False, BOOT))["tortuosity", FAILING, "success", 1.0] == "turns round"


def test_p_is_corrected_over_the_claims_and_over_steps_too(found) -> None:
    for test, at in (("share", 0.3), ("matched", 1.0)):
        own = found[(found["test"] == test) & (found["at"] == at)]
        assert own["p_corrected"].min() == pytest.approx(len(CLAIMS) * own["p"].min())
    steps = found[found["test"] == "step"]
    assert steps["p_corrected"].min() == pytest.approx(len(CLAIMS) * len(STEPS) * steps["p"].min())


def test_few_scenes_say_nothing(frame) -> None:
    few = frame[frame["group_id"] < "scene-008"].reset_index(drop=True)
    told = verdicts(put_to_runs(few, False, 50))
    assert told["concentration_mean", "success", "reasoning_failure", 1.0] == "too few runs"
    assert set(told.values()) <= {"too few runs", "null"}  # an AUC of 0 or 1 has a bound, however few there are


def test_reliability_is_of_the_runs_so_far() -> None:
    """Estimates that are right up to step 4 and made up afterwards."""
    rng = np.random.default_rng(0)
    measured = [rng.gamma(1.0, 1 + i / 10, (int(rng.integers(8, 30)), 5)) for i in range(40)]
    estimated = [np.where(np.arange(len(m))[:, None] < 4, m, rng.gamma(1.0, 1.0, m.shape)) for m in measured]
    found = page.reliability_of(estimated, measured, [f"scene-{i}" for i in range(40)], 20)
    known = found.set_index(["measure", "test", "at"])
    assert known.loc[("path_length", "step", 4), "value"] == 1
    assert known.loc[("path_length", "step", 8), "value"] < 0.95
    assert known.loc[("path_length", "step", 16), "runs"] == sum(len(m) >= 16 for m in measured)
    assert set(known.index.get_level_values("at")) == {*SHARES, *STEPS}


def test_the_page_has_a_row_a_claim_and_counts_failing_runs(tmp_path, capsys) -> None:
    runs = run_table([make_trace(run) for run in make_runs(40)], Wanted(metrics=False)).usable().known()
    found = {name: put_to_runs(runs.frame, within, 50) for name, within in page.OVER.items()}
    rng = np.random.default_rng(0)
    effects = [rng.gamma(1.0, 1.0, (20, 5)) for _ in range(12)]
    reliability = page.reliability_of(effects, effects, [f"scene-{i}" for i in range(12)], 10)
    page.report(tmp_path / "claims.md", "python -m analyses.claims", runs, found, reliability)
    text = (tmp_path / "claims.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    tables = [block.splitlines() for block in text.split("\n\n") if block.lstrip().startswith("|")]
    verdict_table, *by_place, known, counts, lengths = tables
    assert len(verdict_table) == len(CLAIMS) + 2
    assert len(by_place) == 2 * len(page.OVER)
    assert all(len(table) == len(CLAIMS) + 2 for table in by_place)
    assert known[2].startswith("| path length | 1.00")
    assert "(too few for the 300 in 4 that were asked for)" in text
    (picture,) = re.findall(r"!\[[^]]+\]\((claims\.svg)\)", text)
    assert (tmp_path / picture).stat().st_size > 5000
    assert len(counts) > len(lengths) == 2 + 6
