"""What reinforcement on right answers did to a model: accuracy, length, entropy, calibration, before beside after.

    python -m analyses.reinforcement --before data/demo/model --after runs/reinforced

Writes reports/reinforcement.md. Two checkpoints answer the same questions about scenes of test digits, sampled with the
same seeds: greedy on clean scenes, and at temperature 1 on the mix.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import trajkit as tk
from analyses.common import command_of, estimated
from pipelines.demo.rollouts import Rollout, roll_out
from trajkit.attribution.collect import batched
from trajkit.attribution.item import Item
from trajkit.demo.evaluation import said
from trajkit.demo.items import CLEAN, demo_items, judge_by_scene
from trajkit.files import write_text
from trajkit.judging.ranking import Selection
from trajkit.judging.risks import calibration
from trajkit.progress import progress
from trajkit.stats.resampling import Draws, Floats, group_draws, weighted_auc, weighted_mean
from trajkit.tables import Estimate, Table, words
from trajkit.tables.render import markdown
from trajkit.vlm.model import VLM

Statistic = Callable[[pd.DataFrame, Draws], Floats]
"""(runs, draws of their questions) → (B,) values, the first of the runs as they are."""
SURE = 0.9
"""Answers given with this probability or more are called sure."""
_BATCH, _BINS = 32, 8


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, help="the checkpoint that reinforcement began from")
    parser.add_argument("--after", type=Path, required=True, help="the checkpoint that it made")
    parser.add_argument("--updates", type=Path, help="updates.jsonl of the training's --work folder")
    parser.add_argument("--questions", type=int, default=1000, help="of each kind of evaluation")
    parser.add_argument("--samples", type=int, default=2, help="runs of each question on the mix")
    parser.add_argument("--boot", type=int, default=1000, help="bootstrap draws of questions")
    parser.add_argument("--out", type=Path, default=Path("reports/reinforcement.md"))
    args = parser.parse_args(argv)
    command = command_of("reinforcement", parser, args)
    before, after = (answered(folder, args.questions, args.samples) for folder in (args.before, args.after))
    text = (
        "# What reinforcement did\n\n"
        f"Regenerate: `{command}`. Both models answer the same "
        f"{words.count(args.questions, 'question')} about clean scenes of test digits, greedy, and as many on the mix, "
        f"{words.count(args.samples, 'run')} of each at temperature 1, with the same seeds. "
        "Intervals of 95 % resample questions; differences are of the same questions.\n\n"
    )
    if args.updates:
        text += f"In training, by fifths of the updates:\n\n{markdown(course(args.updates))}\n"
    text += _page(before, after, args.boot)
    write_text(args.out, text)
    print(text)


def _page(before: pd.DataFrame, after: pd.DataFrame, n_boot: int) -> str:
    (clean, mix), (clean_after, mix_after) = (
        [runs[runs["setting"] == name].reset_index(drop=True) for name in ("clean", "mix")] for runs in (before, after)
    )
    unanswered = ", ".join(f"{int(runs['sure'].isna().sum())} {when}" for runs, when in _both(mix, mix_after))
    return (
        "Accuracy, greedy on clean scenes:\n\n"
        f"{markdown(by_family(clean, clean_after, mean('right'), n_boot))}\n"
        "Accuracy at temperature 1 on the mix:\n\n"
        f"{markdown(by_family(mix, mix_after, mean('right'), n_boot))}\n"
        "Sentences of a run on the mix:\n\n"
        f"{markdown(by_family(mix, mix_after, mean('sentences'), n_boot, words.estimate))}\n"
        "Tokens of a run on the mix:\n\n"
        f"{markdown(by_family(mix, mix_after, mean('tokens'), n_boot, words.estimate))}\n"
        "Entropy on the mix, nats a token:\n\n"
        f"{markdown(by_family(mix, mix_after, mean('entropy'), n_boot, words.fine))}\n"
        "Whether the model knows when it is right, on the mix:\n\n"
        f"{markdown(knowing(mix, mix_after, n_boot))}\n"
        "An answer's probability is that of its tokens, given the thinking. Too sure: the mean probability of an "
        "answer less the share that was right. Where an answer is missing, it is left out of what is said of answers "
        f"({unanswered}).\n\n"
        "Answers by their probability, in bins of like size, on the mix:\n\n"
        f"{markdown(reliability(mix, mix_after, n_boot))}"
    )


def _both(before: pd.DataFrame, after: pd.DataFrame) -> list[tuple[pd.DataFrame, str]]:
    return [(before, "before"), (after, "after")]


def answered(folder: Path, questions: int, samples: int) -> pd.DataFrame:
    """A row a run of a checkpoint: setting ("clean", greedy, or "mix"), group_id, repeat, family, outcome,
    right (0 or 1), tokens, sentences, entropy and logprob (nats a token), sure (probability of the answer, NaN without
    one)."""
    vlm = tk.load_vlm(folder)
    clean, mix = demo_items("test", questions, 101, CLEAN), demo_items("test", questions, 102)
    with progress(folder.name, total=2 * questions) as bar:
        asked = (("clean", clean, 1), ("mix", mix, samples))
        rows = [row for setting in asked for row in _answers(vlm, *setting, bar.advance)]
    return pd.DataFrame(rows)


def _answers(
    vlm: VLM, setting: str, questions: Iterator[Item], samples: int, advance: Callable[..., None]
) -> Iterator[dict[str, Any]]:
    longest = vlm.model.generation_config.max_new_tokens
    for number, batch in enumerate(batched(questions, _BATCH)):
        for rollouts in roll_out(vlm, batch, samples, longest, seed=None if setting == "clean" else number):
            for repeat, run in enumerate(rollouts):
                yield {"setting": setting, "repeat": repeat, **_row(vlm, run)}
        advance(setting, len(batch))


def _row(vlm: VLM, run: Rollout) -> dict[str, Any]:
    thinking, answer = said(vlm, run.tokens)
    judged = judge_by_scene(run.item, thinking, answer)
    start = run.tokens.index(vlm.think_end) + 1 if answer is not None else len(run.tokens)
    return {
        "group_id": run.item.group_id,
        "family": run.item.task_set,
        "outcome": judged.outcome,
        "right": float(run.ended and judged.success is True),
        "tokens": len(run.tokens),
        "sentences": len(thinking),
        "entropy": float(run.entropy.mean()),
        "logprob": float(run.logprob.mean()),
        "sure": np.nan if answer is None else float(np.exp(run.logprob[start:].sum())),
    }


def mean(column: str) -> Statistic:
    """The mean of a column over its rows that are not NaN."""
    return lambda runs, draws: _mean_where(runs[column].notna(), runs[column], draws)


def _mean_where(some: pd.Series, values: pd.Series, draws: Draws) -> Floats:
    rows = np.flatnonzero(some)
    return weighted_mean(values.to_numpy(float)[rows], draws.of(rows))


def _auc(column: str) -> Statistic:
    """How well a column tells runs that were right from the others."""

    def statistic(runs: pd.DataFrame, draws: Draws) -> Floats:
        rows = np.flatnonzero(runs[column].notna())
        return weighted_auc(runs["right"].to_numpy()[rows], runs[column].to_numpy()[rows], draws.of(rows))

    return statistic


KNOWING: dict[str, Statistic] = {
    "AUC of a run's mean log-probability": _auc("logprob"),
    "AUC of the answer's probability": _auc("sure"),
    "too sure": lambda runs, draws: mean("gap")(runs.assign(gap=runs["sure"] - runs["right"]), draws),
    "Brier score of the answer's probability": lambda runs, draws: mean("square")(
        runs.assign(square=(runs["sure"] - runs["right"]) ** 2), draws
    ),
    f"sure ({words.promise(SURE)} or more), of all": lambda runs, draws: weighted_mean(runs["sure"] >= SURE, draws),
    "wrong, of the sure": lambda runs, draws: _mean_where(runs["sure"] >= SURE, 1 - runs["right"], draws),
}


def knowing(before: pd.DataFrame, after: pd.DataFrame, n_boot: int) -> Table:
    """A row a figure of KNOWING."""
    rows = [{"figure": name} | compared(before, after, figure, n_boot) for name, figure in KNOWING.items()]
    return _table(rows, words.figure)


def by_family(
    before: pd.DataFrame,
    after: pd.DataFrame,
    statistic: Statistic,
    n_boot: int,
    form: Callable[[Any], str] = words.figure,
) -> Table:
    """A row for all runs, and one a family."""
    rows = []
    for name in ("all", *dict.fromkeys(before["family"])):
        both = [runs if name == "all" else runs[runs["family"] == name] for runs in (before, after)]
        rows.append({"family": name, "runs": len(both[0])} | compared(*both, statistic, n_boot))
    return _table(rows, form)


def _table(rows: Sequence[dict[str, Any]], form: Callable[[Any], str]) -> Table:
    difference = words.difference if form is words.estimate else words.fine_difference
    formats = {"before": form, "after": form, "difference": difference}
    return Table(pd.DataFrame(list(rows)), formats=formats)


def compared(before: pd.DataFrame, after: pd.DataFrame, statistic: Statistic, n_boot: int) -> dict[str, Estimate]:
    """before, after, and the difference, of which each draw takes the same questions for both. Raises ValueError where
    the two are not of the same runs."""
    named = ["group_id", "repeat"]
    if not np.array_equal(before[named].to_numpy(), after[named].to_numpy()):
        raise ValueError("expected runs of the same questions, in the same order, before and after.")
    draws = group_draws(before["group_id"], n_boot, seed=0)
    first, second = statistic(before, draws), statistic(after, draws)
    drawn = {"before": first, "after": second, "difference": second - first}
    return {name: estimated(values) for name, values in drawn.items()}


def reliability(before: pd.DataFrame, after: pd.DataFrame, n_boot: int) -> Table:
    """Answers in bins of like size by their probability: the mean of it, and the share that was right."""
    rows = []
    for runs, when in _both(before, after):
        told = runs[runs["sure"].notna()].assign(success=lambda frame: frame["right"]).reset_index(drop=True)
        risk = 1 - told["sure"].to_numpy()
        found = calibration(told, risk, [Selection(np.arange(len(told)))], bins=_BINS, n_boot=n_boot)
        for one in found.iloc[::-1].itertuples():
            right = Estimate.of((1 - one.failed, 1 - one.high, 1 - one.low))
            rows.append({"model": when, "runs": one.n_runs, "probability": 1 - one.risk, "right": right})
    return Table(pd.DataFrame(rows), formats={"probability": words.figure, "right": words.figure})


def course(updates: Path) -> Table:
    """Means over fifths of the updates of a training run."""
    frame = pd.read_json(updates, lines=True)
    fifth = np.arange(len(frame)) * 5 // len(frame)
    columns = {"reward": "right", "disagree": "questions that disagree", "length": "tokens"}
    shown = frame[["reward", "disagree", "length", "entropy", "kl"]].astype(float).groupby(fifth).mean()
    ends = frame["number"].groupby(fifth).agg(["min", "max"])
    shown.insert(0, "updates", [f"{low} to {high}" for low, high in ends.to_numpy()])
    headings = {name: columns.get(name, name) for name in shown} | {"kl": "divergence, nats a token"}
    return Table(shown, headings=headings, formats=dict.fromkeys(("reward", "disagree", "entropy", "kl"), words.figure))


if __name__ == "__main__":
    main()
