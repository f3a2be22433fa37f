"""How faithful the estimated effects are, beside published methods, measured ones and chance.

    python -m analyses.faithfulness                # about half an hour on 2 cores; writes reports/faithfulness.md
    python -m analyses.faithfulness --runs 30      # sooner, with wider intervals

On sampled runs about held-out scenes of test digits, for every demo model: r² and R² of single-region effects against
measured ones, LDS (mean Spearman over random masks), the log-probability lost when the 1, 3 or 5 regions that a method
ranks first are hidden together, and milliseconds per generated token. 95 % intervals resample scenes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from analyses.common import HELD_OUT, Subject, arguments, fit_trees, generated, measured, subjects
from trajkit.attribution.baselines import baselines, best_head
from trajkit.attribution.baselines.at2 import at2
from trajkit.attribution.evaluation import (
    Method,
    Scored,
    baseline_method,
    faithfulness_table,
    paired,
    score_run,
)  # fmt: skip
from trajkit.attribution.features import raw_attention
from trajkit.attribution.measure import Generation
from trajkit.attribution.replay import replay
from trajkit.attribution.training import fit_estimator
from trajkit.progress import progress
from trajkit.text import for_spreadsheet, markdown

OURS, LINEAR, RAW = "network estimator", "linear estimator", "raw attention"
PAPERS, TREES = "linear, the papers' objective", "boosted trees"
REFERENCE, FLOOR = "leave-one-out, measured", "random"
IN_NATS = (
    OURS, LINEAR, PAPERS, TREES, REFERENCE, "ContextCite, 32 masks", "ContextCite, 64 masks", "feature ablation",
    "integrated gradients",
)  # fmt: skip
SHOWN = (OURS, LINEAR, RAW, "integrated gradients", "AttnLRP", REFERENCE)
"""Methods in the table of task families; the file beside the report has all."""


def main(argv: list[str] | None = None) -> None:
    args = arguments(
        __doc__, "reports/faithfulness.md", argv, runs=(80, "test runs of each model"),
        train_runs=(600, "runs for the methods that are fitted here"),
    )  # fmt: skip
    text = (
        f"# Faithfulness\n\nRegenerate: `python -m analyses.faithfulness`. {args.runs} sampled runs of each demo "
        f"model, regions from its vision tower, hidden by filling them with the image's mean colour. {HELD_OUT}\n\n"
    )
    whole, families = [], []
    for subject in subjects(args.models):
        runs = score_model(subject, args.runs, args.train_runs)
        table = faithfulness_table(runs, in_nats=IN_NATS, n_boot=args.boot)
        shown = wide(table).set_index("method")
        for figure in ("r²", "LDS"):
            gains = {m: _cell(*paired(runs, OURS, m, figure, args.boot)) for m in shown.index if m != OURS}
            shown[f"{figure}, {OURS} less this"] = pd.Series(gains)
        kept = _cell(*paired(runs, OURS, REFERENCE, "LDS", args.boot, compare=np.divide))
        text += (
            f"## {subject.name}\n\n{markdown(shown.fillna('').reset_index())}\n"
            f"LDS of the {OURS} over that of leave-one-out: {kept}; 0.9 was the aim.\n\n"
        )
        whole.append(table.assign(model=subject.name, family="all"))
        for family in sorted({s.task_set for s in runs}):
            part = [s for s in runs if s.task_set == family]
            own = faithfulness_table(part, in_nats=IN_NATS, n_boot=args.boot)
            whole.append(own.assign(model=subject.name, family=family))
            row = {"model": subject.name, "family": family}
            row |= {f"{f}, {m}": _value(own, m, f) for f in ("r²", "LDS") for m in SHOWN if (f, m) != ("r²", REFERENCE)}
            families.append(row)
    text += (
        f"{_READING}\n## By task family\n\n{markdown(pd.DataFrame(families))}\n"
        f"Every method and figure, with intervals: `{args.out.with_suffix('.csv').name}`.\n"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.with_suffix(".csv").write_text(for_spreadsheet(pd.concat(whole).round(4)), encoding="utf-8")
    args.out.write_text(text, encoding="utf-8")
    print(text)


def score_model(subject: Subject, n_runs: int, n_train: int) -> list[Scored]:
    """Every method on test runs of one demo model."""
    vlm, network, linear, how = subject.vlm, subject.network, subject.linear, subject.how
    train = measured(subject, "validation", n_train)
    examples = [example for run in train for example in run.examples()]
    recipe = at2(examples, network.binding, vlm.n_features)
    papers = fit_estimator(train, network.binding, vlm.n_features, "linear", scale_weight=0.0)
    trees = fit_trees(train)
    head = best_head(examples, vlm.n_features)
    rng = np.random.default_rng(0)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    methods: dict[str, Method | None] = {
        OURS: lambda run, measured: network.predict(features(run)),
        LINEAR: lambda run, measured: linear.predict(features(run)),
        PAPERS: lambda run, measured: papers.predict(features(run)),
        TREES: lambda run, measured: trees.predict(features(run)),
        "AT2 recipe": lambda run, measured: recipe.predict(features(run)),
        "best single head": lambda run, measured: features(run)[..., head],
        RAW: lambda run, measured: raw_attention(features(run), vlm.n_features),
        **{label: baseline_method(vlm, baseline) for label, baseline in baselines(how.ablation).items()},
        REFERENCE: None,
        FLOOR: lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    scored: list[Scored] = []
    with progress(f"{subject.name}: scoring", total=n_runs) as bar:
        for run, found in generated(subject, n_runs):
            scored += score_run(vlm, run, found, methods, how.ablation)
            bar.advance(run.item.task_set)
    return scored


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """Methods down, figures across, each cell a value with its interval."""
    shown = table.assign(cell=[_cell(r.value, r.low, r.high) for r in table.itertuples()])
    order = list(dict.fromkeys(table["figure"]))
    order.insert(1, order.pop(order.index("R²")))
    pivoted = shown.pivot(index="method", columns="figure", values="cell")
    return pivoted.loc[list(dict.fromkeys(table["method"])), order].fillna("").reset_index()


def _cell(value: float, low: float, high: float) -> str:
    digits = 3 if abs(value) < 1 else 2
    return f"{value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _value(table: pd.DataFrame, method: str, figure: str) -> float:
    found = table.query("method == @method and figure == @figure")["value"]
    return float(found.iloc[0]) if len(found) else float("nan")


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

The last two columns are paired: the same draws of scenes for both.

leave-one-out measures every region alone: r² and R² are 1 by definition, and feature ablation is the same quantity from
another program. It is a reference for LDS and drop@n and no ceiling: it cannot see how regions act together, and an
additive surrogate fitted to masks, as ContextCite's, can rank masks better. The network estimator is trained on both,
boosted trees on single regions alone from the same inputs: what the network has over them is LDS. Single head: the one
of all heads with the highest LDS on training runs. Trees, single head, AT2's recipe and the papers' objective were
fitted on 600 runs, of which the estimators were trained on 540.

Where other figures have been published, they are of large models on photographs and documents (vSTREAM, arXiv
2604.16587: attention estimator r² 0.70 to 0.91, raw attention 0.20, input gradient 0.55, TAM 0.70), and these are of
small ones on a world of digits. TAM reads the output vocabulary at image positions, which a model learns only when it
was pretrained to say what it sees; these were not, and its figures here say nothing of it elsewhere. AttnLRP starts
from the logit of each token and stops at the image embeddings. ContextCite predicts log-probabilities and not logits.

Two of the three models were trained anew, with their towers kept to what they see, after the first version of this page
had shown how weak they were: then the network's r² and LDS were 0.52 and 0.48 on qwen2_5_vl, 0.38 and 0.41 on glm4v,
where integrated gradients had an LDS of 0.73. On a model that hardly uses its image, attention says little.
"""


if __name__ == "__main__":
    main()
