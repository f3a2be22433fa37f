"""Scores of runs so far, each of models that have not seen the run's scene: what `analyses.run_risk` compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import clone

import trajkit as tk
from analyses import prefix_walks, sentence_history
from trajkit.attribution.faithfulness import GROUNDED
from trajkit.demo.knowing import KNOWN, known_frame
from trajkit.demo.named import named_cells
from trajkit.demo.runs import step_labels
from trajkit.detection import StepPredictor
from trajkit.detection.design import DEFAULT_FEATURES, FEATURE_SETS
from trajkit.detection.run_risks import RUN_RISKS, run_risks
from trajkit.detection.splits import failures
from trajkit.judging import folds_of, held_out_risks
from trajkit.judging.held_out_runs import Design, nested_risks, told_at
from trajkit.judging.ranking import Selection, plain_scores
from trajkit.traces.forms import task_labels
from trajkit.traces.trace import Trace
from trajkit.trajectory import on_grid, top_region

Floats = NDArray[np.float64]

UNCERTAINTY, LENGTH, TASK, PREFIX, CEILING = "uncertainty", "length", "task", "prefix features", "ceiling"
SENTENCES, DOUBTS = "sentence risks", "sentence risks, uncertainty alone"
RULES = {name: f"{SENTENCES}: {name}" for name in (*RUN_RISKS, "recent", "standing")}
GEOMETRY, OWN, OTHERS = "geometry", "geometry against own steps", "geometry against other runs"
GROUNDED_ALONE = "geometry of grounded steps"
DIMENSION, NEAREST, NEAREST_MAPS = "effective dimension", "distance to successes", "distance to successes, mean effects"
DEPENDENCE = "entropy × visual dependence, by task"
ADDED = (SENTENCES, DOUBTS, GEOMETRY, GROUNDED_ALONE, OWN, OTHERS, DIMENSION, NEAREST, NEAREST_MAPS, DEPENDENCE)
"""What is added to the baselines, one at a time."""
BASES = {UNCERTAINTY: (UNCERTAINTY,), "uncertainty+length+task": (UNCERTAINTY, LENGTH, TASK)}
_COLUMNS = {
    UNCERTAINTY: list(FEATURE_SETS["uncertainty"]),
    LENGTH: ["n_tokens"],
    GEOMETRY: ["path_length", "tortuosity", "straightness", "switch_rate"],
}
_METRICS = [*_COLUMNS[GEOMETRY], "concentration_mean", "concentration_sd", "mean_step"]
_SHAPE = (8, 8)
_DRAWS = 200
KINDS = {SENTENCES: "both", DOUBTS: "uncertainty"}


@dataclass(frozen=True, eq=False)
class Prefixes:
    """n rows, one a run of known outcome and thinking step, the steps of a run in order and one after another.

    frame: prefix features, sentence features with their labels, `dependence` (positive effects of a step so far, the
    mean, nats), `rests_on`, kind, difficulty and KNOWN. maps: (n, 64) the effects of each step on a grid that
    all pictures share.
    """

    frame: pd.DataFrame
    maps: Floats

    @property
    def failed(self) -> Floats:
        return failures(self.frame)

    def paths(self, selection: Selection) -> Floats:
        """(r, t, 64) of the runs that have come to step t, up to it."""
        return self.maps[_so_far(selection)]

    def grounded(self, selection: Selection) -> NDArray[np.bool_]:
        """(r, t) which of those steps are."""
        return np.asarray(self.frame["largest"].to_numpy(float)[_so_far(selection)] >= GROUNDED)


def read(traces: Sequence[Trace]) -> Prefixes:
    """Runs of the demo, whose sentences can be held against their scenes."""
    frame = tk.features(traces)
    sentences = tk.detection.sentence_features(traces, named_cells, step_labels(traces))
    maps = np.concatenate([_maps(trace) for trace in traces])
    tops = np.concatenate([_tops(trace) for trace in traces])
    keys = ["transcript_id", "step"]
    own = sentences.drop(columns=[name for name in sentences if name in frame and name not in keys])
    own = own.assign(rests_on=tops, row=np.arange(len(own)))
    frame = frame[np.isfinite(failures(frame))].merge(own, on=keys, validate="one_to_one")
    known = known_frame(traces)[[*keys, "kind", "difficulty", *KNOWN]]
    frame = frame.merge(known, on=keys, validate="one_to_one").sort_values(keys, ignore_index=True)
    mass = frame.groupby("transcript_id")["mass"].cumsum()
    return Prefixes(frame.assign(dependence=mass / frame["step"]), maps[frame["row"].to_numpy(int)])


def _so_far(selection: Selection) -> NDArray[np.int64]:
    """(r, t) the rows of the runs at step t, up to it."""
    assert selection.step is not None
    return np.asarray(selection.rows[:, None] + np.arange(1 - selection.step, 1))


def _maps(trace: Trace) -> Floats:
    effects = trace.effects[trace.thinking]
    return on_grid(effects, trace.regions, _SHAPE) if trace.n_regions else np.full((len(effects), 64), np.nan)


def _tops(trace: Trace) -> NDArray[np.int64]:
    """(T,) the region that each thinking step rests on most, −1 where none supports it."""
    effects = trace.effects[trace.thinking]
    return np.where(effects.max(axis=1, initial=0) > 0, top_region(effects), -1)


class Deal:
    """One deal of the scenes to folds, and what is known of a run where each of them is held out.

    fold: (n,). so_far: of each of KINDS and fold held out, what the sentences so far come to, (n,) each.
    """

    def __init__(
        self, runs: Prefixes, seed: int, model: StepPredictor, advance: Callable[[str], None], n_folds: int = 5
    ) -> None:
        self.runs, self.seed = runs, seed
        frame = runs.frame
        self.fold = folds_of(frame, n_folds, seed)
        self.task = np.unique(task_labels(frame), return_inverse=True)[1]
        self.group = np.unique(frame["group_id"].astype(str), return_inverse=True)[1]
        self.so_far: dict[str, list[dict[str, Floats]]] = {}
        for name, kind in KINDS.items():
            risks = nested_risks(frame, self.fold, clone(model).set_params(features=kind), advance)
            self.so_far[name] = [self._so_far(risk) for risk in risks]
        self.block = cache(self._block)

    def _so_far(self, risk: Floats) -> dict[str, Floats]:
        frame = self.runs.frame
        of_run, rests_on = frame["transcript_id"].to_numpy(str), frame["rests_on"].to_numpy(int)
        return run_risks(risk, of_run) | {
            "recent": sentence_history.recent(risk, of_run),
            "standing": sentence_history.standing(risk, of_run, rests_on),
            "now": risk,
        }

    def rule(self, name: str) -> Floats:
        """(n,) one of RULES, of each run where its own fold is held out."""
        return np.stack([so_far[name] for so_far in self.so_far[SENTENCES]])[self.fold, np.arange(len(self.fold))]

    def by_prefixes(self) -> Floats:
        """(n,) risks by the early-failure predictor, in the same folds."""
        n_folds = int(self.fold.max()) + 1
        return held_out_risks(self.runs.frame, [DEFAULT_FEATURES], n_folds, self.seed)[DEFAULT_FEATURES]

    def design(self, names: Iterable[str]) -> Design:
        """What is known by all of those names."""
        chosen = tuple(names)
        return lambda selection, fold: np.concatenate([self.block(name, selection, fold) for name in chosen], axis=1)

    def _block(self, name: str, selection: Selection, fold: int) -> Floats:
        rows = selection.rows
        here = self.runs.frame.iloc[rows]
        train = self.fold[rows] != fold
        if name in _COLUMNS:
            return here[_COLUMNS[name]].to_numpy(float)
        if name == TASK:
            return self._hot(rows)
        if name == CEILING:
            return np.concatenate([here[["difficulty", *KNOWN]].to_numpy(float), self._hot(rows)], axis=1)
        if name in KINDS:
            return np.stack([column[rows] for column in self.so_far[name][fold].values()], axis=1)
        if name == DEPENDENCE:
            x = np.log1p(here[["entropy_mean", "dependence"]].to_numpy(float))
            x = (x - x[train].mean(axis=0)) / x[train].std(axis=0)
            each = np.column_stack([x, x.prod(axis=1)])
            return np.concatenate([each, (self._hot(rows)[:, :, None] * each[:, None]).reshape(len(rows), -1)], axis=1)
        return self._of_paths(name, selection, train)

    def _of_paths(self, name: str, selection: Selection, train: NDArray[np.bool_]) -> Floats:
        rows, paths = selection.rows, self.runs.paths(selection)
        if name == OWN:
            return prefix_walks.against_own_steps(paths, _DRAWS, self.seed)
        if name == GROUNDED_ALONE:
            grounded = self.runs.grounded(selection)
            return np.column_stack([prefix_walks.walks(prefix_walks.of_some(paths, grounded)), grounded.mean(axis=1)])
        if name == OTHERS:
            return prefix_walks.against_other_runs(paths, self.task[rows], train, _DRAWS, self.seed)
        if name == DIMENSION:
            return prefix_walks.effective_dimension(paths)[:, None]
        points = np.sort(paths.mean(axis=1), axis=1)
        if name == NEAREST:
            metrics = self.runs.frame.iloc[rows][_METRICS].to_numpy(float)
            points = np.sign(metrics) * np.log1p(np.minimum(np.abs(metrics), 1e3))
        successes = train & (self.runs.failed[rows] == 0)
        return prefix_walks.distance_to_successes(points, self.group[rows], successes)[:, None]

    def _hot(self, rows: NDArray[np.int64]) -> Floats:
        return (self.task[rows, None] == np.unique(self.task)).astype(float)


def scored(runs: Prefixes, deals: Sequence[Deal], selected: Sequence[Selection]) -> dict[str, Floats]:
    """Method → (R, n) a score of each deal, or (n,) without a fit; higher riskier. NaN of rows of no selection."""
    found: dict[str, Floats] = dict(plain_scores(runs.frame))

    def fitted(names: Iterable[str]) -> Floats:
        return np.stack([told_at(runs.failed, deal.fold, selected, deal.design(names)) for deal in deals])

    for name in (LENGTH, TASK, UNCERTAINTY, CEILING):
        found[name] = fitted([name])
    found[PREFIX] = np.stack([deal.by_prefixes() for deal in deals])
    for rule, name in RULES.items():
        found[name] = np.stack([deal.rule(rule) for deal in deals])
    for name in ADDED:
        found[name] = fitted([name])
    for base, names in BASES.items():
        found[base] = fitted(names)
        for name in ADDED:
            found[f"{base} + {name}"] = fitted([*names, name])
    return found
