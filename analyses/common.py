"""What analyses of attribution share: their arguments, the demo models with their estimators, runs measured once."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import trajkit as tk
from trajkit.attribution.evaluation import ORACLE_GATE, Scored, score_measured
from trajkit.attribution.faithfulness import step_gate
from trajkit.attribution.features import raw_attention
from trajkit.attribution.figures import ALL, GROUNDED_STEPS, faithfulness_table, paired
from trajkit.attribution.measure import Generation, MeasuredRun, Measuring, generation_of
from trajkit.attribution.network import N_FACTS, expand, floor_of
from trajkit.demo import paths
from trajkit.demo.digits import Split
from trajkit.demo.items import demo_items, judge_by_scene
from trajkit.demo.measured import TEST_SEED, TRAIN_SEED, measured_demo_runs
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.stats.resampling import Floats, interval
from trajkit.tables import Estimate, Table, words
from trajkit.tables.render import markdown
from trajkit.tables.table import Format
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


def arguments(
    doc: str | None, out: str, argv: list[str] | None, *flags: tuple[str, str], **counts: tuple[int, str]
) -> argparse.Namespace:
    """--models, --boot and --out, a switch for each of `flags` (name, help), and an integer option for each of `counts`
    (name → default, help); with `command`, which makes the page `out` again."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, (default, text) in counts.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default, help=text)
    for name, text in flags:
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--models", nargs="+", default=list(paths.MODELS), choices=paths.MODELS)
    return _parsed(parser, out, argv, 500)


def arguments_of_traces(
    doc: str | None, out: str, argv: list[str] | None, boot: int, **options: tuple[float | None, str]
) -> argparse.Namespace:
    """The folder `traces`, by default the demo's; an option for each of `options` (name → default, help), a number with
    a fraction where the default has one; --boot and --out; with `command`, which makes the page `out` again."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("traces", type=Path, nargs="?", default=paths.TRACES, help="by default the demo's")
    for name, (default, text) in options.items():
        kind = float if isinstance(default, float) else int
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    return _parsed(parser, out, argv, boot, ["traces"])


def _parsed(
    parser: argparse.ArgumentParser, out: str, argv: list[str] | None, boot: int, positional: Collection[str] = ()
) -> argparse.Namespace:
    """With --boot and --out, which all pages have, and `command`."""
    parser.add_argument("--boot", type=int, default=boot, help="bootstrap draws of scenes")
    parser.add_argument("--out", type=Path, default=Path(out))
    args = parser.parse_args(argv)
    args.command = command_of(Path(out).stem, parser, args, positional)
    return args


def command_of(
    name: str,
    parser: argparse.ArgumentParser,
    args: argparse.Namespace,
    positional: Collection[str] = (),
    unsaid: Collection[str] = ("out",),
) -> str:
    """What makes a page of `analyses.{name}` again: the arguments that are not as by default.

    positional: those without a flag. unsaid: those that say where to write or keep things.
    """
    typed = ["python", "-m", f"analyses.{name}"]
    for option, value in vars(args).items():
        if option in unsaid or value == parser.get_default(option):
            continue
        if option not in positional:
            typed.append(f"--{option.replace('_', '-')}")
        if value is not True:
            typed += map(str, value if isinstance(value, list) else [value])
    return shlex.join(typed)


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


@dataclass(frozen=True, eq=False)
class Regressor:
    """A scikit-learn regressor of single-region effects on the network's own inputs."""

    floor: NDArray[np.float32]
    fitted: Any

    def predict(self, features: NDArray[Any]) -> NDArray[Any]:
        """(T, K, F) features, as by StepFeatures → (T, K) nats."""
        x = expand(np.asarray(features, np.float32), self.floor)
        return self.fitted.predict(x.reshape(-1, x.shape[-1])).reshape(x.shape[:-1])


def fit_trees(runs: Sequence[MeasuredRun]) -> Regressor:
    """Gradient-boosted trees, 150 of them."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return _fit(runs, HistGradientBoostingRegressor(max_iter=150, random_state=0))


def fit_ridge(runs: Sequence[MeasuredRun]) -> Regressor:
    """Ridge regression with the penalty that generalised cross-validation chooses."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return _fit(runs, make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 5, 15))))


def _fit(runs: Sequence[MeasuredRun], regressor: Any) -> Regressor:
    n = runs[0].features.shape[-1] - N_FACTS
    rows = [run.features.reshape(-1, n + N_FACTS) for run in runs]
    floor = floor_of(row[:, :n] for row in rows)
    x = np.concatenate([expand(run.features, floor).reshape(-1, 3 * n + N_FACTS) for run in runs])
    return Regressor(floor, regressor.fit(x, np.concatenate([run.single.T.ravel() for run in runs])))


def only(run: MeasuredRun, steps: NDArray[Any]) -> MeasuredRun:
    """The run with some of its steps: indices or a mask."""
    return replace(run, features=run.features[steps], effects=run.effects[:, steps], single=run.single[:, steps])


def score(name: str, runs: Sequence[MeasuredRun], predict: Callable[[NDArray[Any]], Any]) -> list[Scored]:
    """An estimator's predictions on measured runs."""
    return [score_measured(name, run, predict(run.features)) for run in runs if len(run.features)]


def figures(scored: Sequence[Scored], n_boot: int, in_nats: bool = True, band: str = ALL) -> dict[str, Estimate]:
    """Each figure of one method on the steps of a band."""
    name = scored[0].method
    table = faithfulness_table(scored, in_nats=[name] if in_nats else [], band=band, n_boot=n_boot)
    return {row.figure: Estimate.of((row.value, row.low, row.high)) for row in table.itertuples()}


def cells(
    scored: Sequence[Scored],
    n_boot: int,
    wanted: Sequence[str] = ("r²", "R²", "LDS"),
    in_nats: bool = True,
    band: str = ALL,
) -> dict[str, Estimate]:
    """Figures of one method by the column of a table that they stand in, which names the band unless it is all steps;
    NaN where nothing was scored."""
    found = figures(scored, n_boot, in_nats, band) if scored else dict.fromkeys(wanted, Estimate(np.nan))
    return {name if band == ALL else f"{name}, {band}": found[name] for name in wanted if name in found}


def lead(scored: Sequence[Scored], runs: Sequence[MeasuredRun], n_features: int, n_boot: int) -> dict[str, Estimate]:
    """What stands before r² over all steps: top-1 and r² of one method on grounded steps; and r² over all steps of one
    region and one number a step, which is no less for knowing nothing but how much a step depends on the image."""
    gate = [
        score_measured(
            ORACLE_GATE, run, step_gate(raw_attention(run.features, n_features), run.single.max(0, initial=0))
        )
        for run in runs
        if len(run.features)
    ]
    over_all = cells(gate, n_boot, ("r²",)).get("r²", Estimate(np.nan))
    return cells(scored, n_boot, ("top-1", "r²"), band=GROUNDED_STEPS) | {f"{ORACLE_GATE}, r²": over_all}


def difference(first: Sequence[Scored], second: Sequence[Scored], figure: str, n_boot: int) -> Estimate:
    """A figure of `first` less that of `second`, the same draws of scenes for both."""
    both = [replace(s, method=name) for name, each in (("a", first), ("b", second)) for s in each]
    return Estimate.of(paired(both, "a", "b", figure, n_boot))


def estimated(drawn: Floats) -> Estimate:
    """Of (B,) draws, the first of the sample, the figure and its interval."""
    return Estimate.of(interval(drawn))


def table_of(rows: Sequence[Mapping[str, Any]], formats: Mapping[str, Format] | None = None) -> Table:
    """A row a mapping of column, as people read it, → value; a dash where a row has none. formats: column → how its
    numbers are said; estimates are figures of faithfulness where none is given."""
    frame = pd.DataFrame(list(rows))
    own = [name for name in frame if any(isinstance(value, Estimate) for value in frame[name])]
    return Table(frame, {name: name for name in frame}, dict.fromkeys(own, words.figure) | dict(formats or {}))


def write(out: Path, text: str, table: Table, reading: str, picture: Path | None = None) -> None:
    """Write a report: text, a table, its picture, its reading; and print it."""
    image = f"![{out.stem.replace('_', ' ')}]({picture.name})\n\n" if picture else ""
    whole = f"{text}\n\n{markdown(table)}\n{image}{reading}\n"
    write_text(out, whole)
    print(whole)
