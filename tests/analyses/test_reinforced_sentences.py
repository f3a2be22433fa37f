"""What effects add to uncertainty about a sentence, before and after reinforcement."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice, product

import numpy as np
import pytest

import trajkit as tk
from analyses import reinforced_sentences as page
from analyses.step_text import PAIRS, with_text
from trajkit.demo import paths
from trajkit.errors import InputError
from trajkit.judging import step_gains


@pytest.fixture(scope="module")
def held():
    """The demo's model, and the same runs with effects that tell nothing."""
    runs = [replace(run, image=None) for run in islice(tk.read_traces(paths.TRACES), 240)]
    rng = np.random.default_rng(0)
    blind = [replace(run, effects=rng.normal(size=run.effects.shape).astype(np.float32)) for run in runs]
    return {page.BEFORE: with_text(blind, deals=1), page.AFTER: with_text(runs, deals=1)}


def test_runs_of_both_are_taken_in_one_order():
    runs = list(islice(tk.read_traces(paths.TRACES), 4))
    before, after = page.paired([runs[2], runs[0], runs[1]], [runs[3], runs[1], runs[2]])
    assert [run.transcript_id for run in before] == [run.transcript_id for run in after]
    assert before == [runs[2], runs[1]]
    with pytest.raises(InputError, match="none alike"):
        page.paired(runs[:2], runs[2:])
    with pytest.raises(InputError, match="about one scene"):
        page.paired(runs[:1], [replace(runs[0], group_id="another")])


def test_gains_are_those_of_each_model_and_the_difference_is_after_less_before(held):
    table = page.gains(held, n_boot=50).frame.set_index(["known", "told", "among", "pairs"])
    assert len(table) == 16
    for known, within in product(PAIRS, (False, True)):
        for model, own in held.items():
            expected = step_gains(own, *PAIRS[known], within_task=within, n_boot=50).set_index(["target", "sentences"])
            for target, among in product(("wrong", "false"), ("all", "confident")):
                row = table.loc[known, target, among, "within form" if within else "all"]
                assert row[f"gain, {model}"].value == pytest.approx(expected.loc[(target, among), "gain"])
                assert row[f"AUC without, {model}"] == pytest.approx(expected.loc[(target, among), "auc_than"])
    for _, row in table.iterrows():
        assert row[page.DIFFERENCE].value == pytest.approx(row["gain, after"].value - row["gain, before"].value)
    assert (table["p (Holm)"] <= 1).all()


def test_the_page_says_which_differences_are_told(held, tmp_path, capsys):
    page.report(tmp_path / "page.md", "python -m analyses.reinforced_sentences", held, 50)
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out.strip() == text.strip()
    assert "Beside uncertainty, " in text
    assert "Beside uncertainty and text, " in text
    assert text.count("| uncertainty and text |") == 8
    shares = page.sentences(held, n_boot=20).frame.set_index("sentences")
    assert shares.loc["wrong", "before"].value == shares.loc["wrong", "after"].value
    assert 0 < shares.loc["wrong, of the confident", "after"].value < shares.loc["wrong", "after"].value < 0.5
