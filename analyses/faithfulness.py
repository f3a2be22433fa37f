"""How faithful the estimated effects are, beside published methods, measured ones and chance.

    python -m analyses.faithfulness                # hours on 2 cores; writes reports/faithfulness.md
    python -m analyses.faithfulness --runs 14      # half an hour, with wider intervals
    python -m analyses.faithfulness --quick        # minutes: without the methods that take many passes or gradients

On sampled runs about held-out scenes of test digits, for every demo model: top-1 (whether a step's top region is the
measured one), r² and R² of single-region effects against measured ones, LDS (mean Spearman over random masks), the
log-probability lost when the 1, 3 or 5 regions that a method ranks first are hidden together, by the largest measured
effect of the step; how far run metrics of estimated effects rank runs as those of measured ones; milliseconds per
generated token. 95 % intervals resample scenes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analyses.common import HELD_OUT, Subject, arguments, fit_trees, generated, measured, subjects, table_of
from trajkit.attribution.baselines import baselines, best_head
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.estimator import StepExample, usable_examples
from trajkit.attribution.evaluation import (
    ESTIMATED_GATE,
    ORACLE_GATE,
    SHRUNK,
    Method,
    Scored,
    baseline_method,
    score_run,
    step_gates,
)
from trajkit.attribution.features import raw_attention
from trajkit.attribution.figures import ALL, BANDS, GROUNDED_STEPS, band_table, paired, step_counts
from trajkit.attribution.measure import Generation, MeasuredRun
from trajkit.attribution.reliability import OF_EFFECTS, metric_reliability
from trajkit.attribution.replay import replay
from trajkit.attribution.shrinkage import SHARES, best_share
from trajkit.attribution.training import fit_estimator
from trajkit.attribution.verdict import conclude
from trajkit.files import write_text
from trajkit.progress import progress
from trajkit.tables import Estimate, Table, joined, words
from trajkit.tables.render import csv, markdown

RUNS = 80
OURS, LINEAR, RAW = "network estimator", "linear estimator", "raw attention"
PAPERS, TREES = "linear, the papers' objective", "boosted trees"
REFERENCE, FLOOR = "leave-one-out, measured", "random"
GRADIENTS = "integrated gradients"
LESS = f"{OURS} less this"
IN_NATS = (
    OURS,
    LINEAR,
    PAPERS,
    TREES,
    REFERENCE,
    "ContextCite, 32 masks",
    "ContextCite, 64 masks",
    "feature ablation",
    GRADIENTS,
    *(SHRUNK.format(name) for name in (LINEAR, PAPERS, TREES, REFERENCE, GRADIENTS)),
    ESTIMATED_GATE,
    ORACLE_GATE,
)
SHOWN = (OURS, LINEAR, RAW, GRADIENTS, "AttnLRP", REFERENCE)
"""Methods in the table of task families; the file beside the report has all."""
SIZES = tuple(band for band in BANDS if band not in (ALL, GROUNDED_STEPS))
Effects = list[NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What every method says of test runs; and of their thinking steps (T, K) effects, estimated and measured."""

    scored: list[Scored]
    estimated: Effects
    effects: Effects
    groups: list[str]


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__,
        "reports/faithfulness.md",
        argv,
        ("quick", "leave out methods that take many passes or gradients"),
        runs=(RUNS, "test runs of each model"),
        train_runs=(300, "runs for the methods that are fitted here"),
    )
    text = (
        f"# Faithfulness\n\nRegenerate: `{args.command}`. {args.runs} sampled runs of each demo model, regions "
        f"from its vision tower, hidden by filling them with the image's mean colour. {HELD_OUT}\n\n{_FIRST}\n"
    )
    whole, families, metrics = [], [], pd.DataFrame({"run metric": [m.replace("_", " ") for m in OF_EFFECTS]})
    for subject in subjects(args.models):
        found = score_model(subject, args.runs, args.train_runs, args.quick)
        table = band_table(found.scored, in_nats=IN_NATS, n_boot=args.boot)
        text += f"## {subject.name}\n\n{model_text(found.scored, table, args.boot)}"
        whole.append(table.assign(model=subject.name, family="all"))
        reliability = metric_reliability(found.estimated, found.effects, found.groups, n_boot=args.boot)
        metrics[subject.name] = joined(reliability, "value")["value"]
        for family in sorted({s.task_set for s in found.scored}):
            own = band_table([s for s in found.scored if s.task_set == family], in_nats=IN_NATS, n_boot=args.boot)
            whole.append(own.assign(model=subject.name, family=family))
            families.append({"model": subject.name, "family": family} | on_grounded_steps(own))
    by_family = table_of(families, dict.fromkeys((name for row in families for name in row), words.figure))
    every = args.out.with_suffix(".csv")
    text += (
        f"## Run metrics\n\n{_METRICS}\n\n{markdown(table_of(metrics.to_dict('records')))}\n"
        f"## How to read the figures\n\n{_READING.format(train_runs=args.train_runs)}\n"
        f"## By task family\n\nOn grounded steps.\n\n{markdown(by_family)}\n"
        f"Every method, band and figure, with intervals: `{every.name}`.\n"
    )
    write_text(every, csv(Table(pd.concat(whole))))
    write_text(args.out, text)
    print(text)


def on_grounded_steps(table: pd.DataFrame) -> dict[str, float]:
    """top-1 and LDS of the methods in SHOWN by their column; NaN where they have none."""
    found = table[table["band"] == GROUNDED_STEPS].set_index(["figure", "method"])["value"]
    methods = [method for method in SHOWN if method in set(table["method"])]
    asked = [pair for pair in product(("top-1", "LDS"), methods) if pair != ("top-1", REFERENCE)]
    return {", ".join(pair): found.get(pair, np.nan) for pair in asked}


def model_text(scored: list[Scored], table: pd.DataFrame, n_boot: int) -> str:
    """What one model comes to: on grounded steps, by the size of a step's largest effect, and last over all steps."""
    counts = step_counts(scored)
    present = [band for band in SIZES if counts[band][0]]
    of_each = ", ".join(f"{words.count(counts[band][0], 'step')} of {band}" for band in present)
    text = f"{conclude(scored, OURS, RAW, n_boot).text}\n\n"
    columns = [(band, figure) for figure in ("top-1", "r²") for band in present]
    text += (
        f"By the largest measured effect of a step; {of_each}:\n\n{markdown(table_of(wide(table, columns, True)))}\n"
    )
    if counts[GROUNDED_STEPS][0]:
        figures = ("top-1", "LDS", "r² within steps", "drop@1", "drop@3", "drop@5")
        own = wide(table, [(GROUNDED_STEPS, figure) for figure in figures])
        less = {figure: gains(scored, figure, n_boot, GROUNDED_STEPS) for figure in ("top-1", "LDS")}
        text += f"On grounded steps:\n\n{markdown(compared(own, less))}\n"
    figures = ("top-1", "LDS", "r² within steps", "no answer", "ms per token", "R²", "r²")
    every = wide(table, [(ALL, figure) for figure in figures])
    kept, kept_shrunk = (
        words.figure(Estimate.of(paired(scored, OURS, name, "LDS", n_boot, compare=np.divide)))
        for name in (REFERENCE, SHRUNK.format(REFERENCE))
    )
    return (
        f"{text}On all steps:\n\n{markdown(compared(every, {'LDS': gains(scored, 'LDS', n_boot)}, 3))}\n"
        f"LDS of the {OURS} over that of leave-one-out: {kept}, where 0.9 was the aim; over that of leave-one-out "
        f"shrunk alike: {kept_shrunk}.\n\n"
    )


def gains(scored: list[Scored], figure: str, n_boot: int, band: str = ALL) -> dict[str, Estimate]:
    """What the network has over each other method in a figure, in the order the methods came."""
    methods = dict.fromkeys(s.method for s in scored if s.method != OURS)
    return {m: Estimate.of(paired(scored, OURS, m, figure, n_boot, band=band)) for m in methods}


def compared(rows: Sequence[dict[str, Any]], less: dict[str, dict[str, Estimate]], at: int | None = None) -> Table:
    """`rows` of methods as a table, with a column for each figure of `less`: last, or from column number `at`."""
    columns = {f"{figure}, {LESS}": found for figure, found in less.items()}
    whole = [row | {name: found.get(row["method"]) for name, found in columns.items()} for row in rows]
    names = list(rows[0])
    at = len(names) if at is None else at
    order = [*names[:at], *columns, *names[at:]]
    formats = dict.fromkeys(columns, words.fine_difference)
    return table_of([{name: row[name] for name in order} for row in whole], formats)


def score_model(subject: Subject, n_runs: int, n_train: int, quick: bool) -> Evaluated:
    """Every method on test runs of one demo model. quick: none that takes more than one pass of it."""
    vlm, network, linear, how = subject.vlm, subject.network, subject.linear, subject.how
    runs = measured(subject, "validation", n_train)
    last = max(len(runs) * 3 // 20, 1)
    train, aside = runs[:-last], runs[-last:]
    examples = [example for run in train for example in run.examples()]
    recipe = at2(examples, network.binding, vlm.n_features)
    papers = fit_estimator(train, network.binding, vlm.n_features, "linear", scale_weight=0.0)
    trees = fit_trees(train)
    head = best_head(examples, vlm.n_features)
    rng = np.random.default_rng(0)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    slow = {} if quick else {name: baseline_method(vlm, each) for name, each in baselines(how.ablation).items()}
    methods: dict[str, Method | None] = {
        OURS: lambda run, measured: network.predict(features(run)),
        LINEAR: lambda run, measured: linear.predict(features(run)),
        PAPERS: lambda run, measured: papers.predict(features(run)),
        TREES: lambda run, measured: trees.predict(features(run)),
        "AT2 recipe": lambda run, measured: recipe.predict(features(run)),
        "best single head": lambda run, measured: features(run)[..., head],
        RAW: lambda run, measured: raw_attention(features(run), vlm.n_features),
        **slow,
        REFERENCE: None,
        FLOOR: lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    shrunk = {
        LINEAR: chosen_share(aside, lambda e: linear.predict(e.features)),
        PAPERS: chosen_share(aside, lambda e: papers.predict(e.features)),
        TREES: chosen_share(aside, lambda e: trees.predict(e.features)),
        RAW: chosen_share(aside, lambda e: raw_attention(e.features, vlm.n_features)),
        REFERENCE: chosen_share(aside, lambda e: e.single),
        **({} if quick else {GRADIENTS: float(network.arrays["share"][0])}),
    }
    evaluated = Evaluated([], [], [], [])
    with progress(f"{subject.name}: scoring", total=n_runs) as bar:
        for run, found in generated(subject, n_runs):
            estimated = network.predict(found.features)
            evaluated.scored.extend(score_run(vlm, run, found, methods, how.ablation, shrunk=shrunk))
            raw = raw_attention(found.features, vlm.n_features)
            evaluated.scored.extend(step_gates(found, raw, estimated))
            thinking = [span.kind == "thinking" for span in run.spans]
            evaluated.estimated.append(estimated[thinking])
            evaluated.effects.append(found.single.T[thinking])
            evaluated.groups.append(found.group_id)
            bar.advance(run.item.task_set)
    return evaluated


def chosen_share(aside: Sequence[MeasuredRun], scores: Callable[[StepExample], NDArray[Any]]) -> float:
    """The share by which a method's scores are shrunk, chosen as the network's is, on runs that are set aside."""
    examples = usable_examples([example for run in aside for example in run.examples()])
    return best_share([scores(example) for example in examples], examples, SHARES)


def wide(table: pd.DataFrame, columns: list[tuple[str, str]], with_band: bool = False) -> list[dict[str, Any]]:
    """Methods down, (band, figure) columns across, each cell an estimate; columns of nothing left out.

    with_band: headings name both.
    """
    found = joined(table, "value")
    cells = dict(zip(zip(found["band"], found["figure"], found["method"], strict=True), found["value"], strict=True))
    methods = list(dict.fromkeys(table["method"]))
    shown = [c for c in columns if any((*c, method) in cells for method in methods)]
    after = [OURS, RAW, ESTIMATED_GATE, ORACLE_GATE]  # beside each other, whatever else there is
    order = [*after, *(method for method in methods if method not in after)]
    return [
        {"method": method} | {", ".join((c[1], c[0])[: 1 + with_band]): cells.get((*c, method)) for c in shown}
        for method in order
    ]


_FIRST = f"""\
A step is grounded when hiding some region lowers its log-probability by at least 0.5 nats; the others hardly depend on
the image, and there is little to agree on. top-1: the share of steps whose top region is the measured one, the one with
the largest effect. A region whose hiding makes a step likelier is no ground of it, and methods whose scores are never
negative could not name it; so the bands, too, go by a step's largest effect, and not by its largest by size. Over all
steps r² flatters: nearly all the variance of effects lies in few points, and a method that knows how much a step
depends on the image, and nothing else, does well. Two rows show how well: `{ESTIMATED_GATE}` gives one region, the one
that raw attention ranks first, one number, the largest effect that the network estimates for the step;
`{ORACLE_GATE}` the largest measured effect, which nobody has. So tables begin with agreement by the size of a step's
largest effect, and r² over all steps comes last.
"""

_METRICS = f"""\
Spearman correlation over runs between a metric of the thinking steps' effects as the {OURS} has them and as they were
measured. A metric that depends on the few large effects is safe to use; of one that depends on which region leads in
steps without a large effect, or on how much concentration varies, a difference between runs may be the estimator's."""

_READING = """\
r²: squared correlation of a method's scores with the measured effect of hiding each region alone, over all steps and
regions; it forgives a wrong scale, offset and sign. R²: without forgiveness, for methods that predict nats. r² within
steps: mean over steps of r·|r| over regions, which asks only where a step looks and not how much it depends on looking;
a method that points the wrong way is below 0. LDS: mean over steps of the Spearman correlation between measured effects
of 32 random masks and the summed scores of the regions that each hides; most steps are such that hiding half of the
image changes them little, and they count as much as the others. drop@n: nats that a step loses when the n regions that
a method ranks first are hidden together. no answer: share of steps where a method scores all regions alike; they count
as 0 in both means over steps. ms per token: time of scoring a whole run after it was generated, over its tokens, on
this machine's CPU; the estimators, trees, raw attention and single head take one pass of the model, which generation
makes anyway, ContextCite and feature ablation one for each mask or region. What it takes to train an estimator
(minutes) and to segment an image (see [regions](regions.md)) is not in the column.

Columns that say "less this" are paired: the same draws of scenes for both.

leave-one-out measures every region alone: r² and R² are 1 by definition, and feature ablation is the same quantity from
another program. It is a reference for LDS and drop@n and no ceiling: it cannot see how regions act together, and its
small effects, which are as real as large ones, add up over a mask to what is not. An additive surrogate fitted to
masks, as ContextCite's, can rank masks better, and so can fewer regions. The network takes for nothing what is small
beside the largest effect of a step (`trajkit.attribution.shrinkage`). The rows that say *shrunk* do the same to other
scores, each by the share that is best for it on 15 % of {train_runs} validation runs (integrated gradients by the
network's), so that what shrinking is worth does not pass for what the network is. The network estimator is trained on
single regions and masks, boosted trees on single regions alone from the same inputs. Single head: the one of all heads
with the highest LDS on training runs. Trees, single head, AT2's recipe and the papers' objective were fitted on the
other 85 %; the two estimators are those that are shipped.

Where other figures have been published, they are of large models on photographs and documents (vSTREAM, arXiv
2604.16587: attention estimator r² 0.70 to 0.91, raw attention 0.20, input gradient 0.55, TAM 0.70), and these are of
small ones on a world of digits. TAM reads the output vocabulary at image positions, which a model learns only when it
was pretrained to say what it sees; these were not, and its figures here say nothing of it elsewhere. AttnLRP starts
from the logit of each token and stops at the image embeddings. ContextCite predicts log-probabilities and not logits.
"""


if __name__ == "__main__":
    main()
