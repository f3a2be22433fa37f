"""What analyses of attribution share: their arguments, the demo models with their estimators, runs measured once."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from trajkit.attribution.evaluation import Scored, faithfulness_table, score_measured
from trajkit.attribution.measure import Generation, MeasuredRun, Measuring, generation_of
from trajkit.cli.output import markdown
from trajkit.demo import paths
from trajkit.demo.digits import Split
from trajkit.demo.measured import TEST_SEED, TRAIN_SEED, measured_demo_runs
from trajkit.demo.runs import demo_items, judge_by_scene
from trajkit.progress import progress
from trajkit.vlm.model import VLM

HELD_OUT = (
    "Runs about scenes of test digits, which neither the model nor an estimator was trained on; 95 % intervals "
    "resample scenes."
)


@dataclass(frozen=True, eq=False)
class Subject:
    """A demo model with its shipped estimators."""

    name: str
    vlm: VLM
    network: tk.EffectEstimator
    linear: tk.EffectEstimator

    @property
    def how(self) -> Measuring:
        bound = self.network.binding
        return Measuring(bound.pooling, bound.ablation, bound.region_method)


def arguments(doc: str | None, out: str, argv: list[str] | None, **counts: tuple[int, str]) -> argparse.Namespace:
    """--models, --boot and --out, and an integer option for each of `counts` (name → default, help)."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, text) in counts.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=text)
    parser.add_argument("--models", nargs="+", default=list(paths.MODELS), choices=paths.MODELS)
    parser.add_argument("--boot", type=int, default=500, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path(out))
    return parser.parse_args(argv)


def subjects(names: Sequence[str]) -> Iterator[Subject]:
    """The demo models of these architectures, one loaded at a time."""
    for name in names:
        network, linear = (tk.EffectEstimator.load(paths.estimator(name, kind)) for kind in ("network", "linear"))
        yield Subject(name, tk.load_vlm(paths.model(name)), network, linear)


def measured(subject: Subject, split: Split, n: int) -> list[MeasuredRun]:
    """The first `n` measured runs of a split, with a progress bar."""
    with progress(f"{subject.name}: {split} runs", total=n) as bar:
        return measured_demo_runs(subject.vlm, split, n, subject.how, bar.advance)


def generated(subject: Subject, n: int, split: Split = "test") -> Iterator[tuple[Generation, MeasuredRun]]:
    """The first `n` runs of a split that have steps, each with its measurements."""
    found = {run.group_id: run for run in measured(subject, split, n)}  # a group is one scene, with one run here
    for item in demo_items(split, n, TEST_SEED if split == "test" else TRAIN_SEED):
        if item.group_id in found:
            run = found[item.group_id]
            yield generation_of(subject.vlm, item, run, subject.how.region_method), run


def right(run: Generation) -> bool:
    """Whether a generation's answer is what its scene says."""
    thinking = [text for text, span in zip(run.texts, run.spans, strict=True) if span.kind == "thinking"]
    answer = next((text for text, span in zip(run.texts, run.spans, strict=True) if span.kind == "answer"), None)
    return judge_by_scene(run.item, thinking, answer).success is True


def only(run: MeasuredRun, steps: NDArray[Any]) -> MeasuredRun:
    """The run with some of its steps: indices or a mask."""
    return replace(run, features=run.features[steps], effects=run.effects[:, steps], single=run.single[:, steps])


def score(name: str, runs: Sequence[MeasuredRun], predict: Callable[[NDArray[Any]], Any]) -> list[Scored]:
    """An estimator's predictions on measured runs."""
    return [score_measured(name, run, predict(run.features)) for run in runs if len(run.features)]


def figures(scored: Sequence[Scored], n_boot: int, in_nats: bool = True) -> pd.DataFrame:
    """value, low and high of each figure of one method, indexed by the figure."""
    name = scored[0].method
    return faithfulness_table(scored, in_nats=[name] if in_nats else [], n_boot=n_boot).set_index("figure")


def cell(row: Any) -> str:
    """A value with its interval."""
    return f"{row.value:.3f} ({row.low:.3f} to {row.high:.3f})" if np.isfinite(row.value) else ""


def cells(scored: Sequence[Scored], n_boot: int, wanted: Sequence[str] = ("r²", "R²", "LDS")) -> dict[str, str]:
    """Figures of one method as table cells; empty where nothing was scored."""
    if not scored:
        return dict.fromkeys(wanted, "")
    table = figures(scored, n_boot)
    return {figure: cell(table.loc[figure]) for figure in wanted if figure in table.index}


def write(out: Path, text: str, rows: list[dict[str, Any]], reading: str, picture: Path | None = None) -> None:
    """Write a report: text, a table of `rows`, its picture, its reading; and print it."""
    image = f"![{out.stem.replace('_', ' ')}]({picture.name})\n\n" if picture else ""
    whole = f"{text}\n\n{markdown(pd.DataFrame(rows).fillna(''))}\n{image}{reading}\n"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(whole, encoding="utf-8")
    print(whole)
