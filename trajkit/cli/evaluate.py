"""`trajkit evaluate`: how faithful an estimator is on a user's questions, beside other methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.options import (
    EstimatorOption,
    ImagesOption,
    ModelOption,
    QuestionsArgument,
    SeedOption,
    TemperatureOption,
    TokensOption,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd

EVERY = "all"


def evaluate(
    questions: QuestionsArgument,
    images: ImagesOption = None,
    model: ModelOption = None,
    estimator: EstimatorOption = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="quick|all", help="all: also gradients, AttnLRP, TAM, ContextCite.")
    ] = "quick",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Also write the table there.")] = None,
    masks: Annotated[int, typer.Option("--masks", metavar="N", min=8, help="Random masks a run, for LDS.")] = 32,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure what hiding regions really does to each step, and compare with what the estimator says.

    Use images that the estimator was not trained on. Every figure stands beside raw attention, chance (the floor) and
    the measured effects themselves (the ceiling), with 95 % intervals that resample images.

    [bold]Example[/bold]

      trajkit evaluate held-out.jsonl --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator
    """
    import numpy as np

    from trajkit.attribution.evaluation import Method, baseline_method, faithfulness_table, score_run
    from trajkit.attribution.features import raw_attention
    from trajkit.attribution.measure import Generation, Measuring, generations, measure
    from trajkit.attribution.replay import replay
    from trajkit.attribution.stream import Sampling
    from trajkit.cli.loading import load_estimator, load_model
    from trajkit.cli.options import one_of
    from trajkit.cli.output import show_frame, stdout
    from trajkit.cli.train_estimator import items
    from trajkit.errors import InputError
    from trajkit.progress import progress
    from trajkit.traces.questions import read_questions

    one_of("--methods", methods, ("quick", "all"))
    asked = read_questions(questions, images)
    vlm = load_model(model)
    ours = load_estimator(estimator, vlm)
    bound = ours.binding
    how = Measuring(bound.pooling, bound.ablation, bound.region_method, masks)
    rng = np.random.default_rng(seed)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    compared: dict[str, Method] = {
        "estimator": lambda run, measured: ours.predict(features(run)),
        "raw attention": lambda run, measured: raw_attention(features(run), vlm.n_features),
        "measured (ceiling)": lambda run, measured: measured.single.T,
        "random (floor)": lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    if methods == "all":
        from trajkit.attribution.baselines import BASELINES

        compared |= {name: baseline_method(vlm, baseline) for name, baseline in BASELINES.items()}
    scored, sampling = [], Sampling(temperature, max_new_tokens, seed)
    with progress("measuring", total=len(asked)) as bar:
        for run in generations(vlm, items(asked), sampling, how.region_method, batch_size=1):
            if run.spans:
                scored += score_run(vlm, run, measure(vlm, run, how, seed), compared, how.ablation)
            bar.advance(run.item.id)
    if not scored:
        raise InputError(f"none of the {len(asked)} runs had a step; is this a thinking model?")
    families = sorted({s.task_set for s in scored})
    parts = {EVERY: scored} | ({f: [s for s in scored if s.task_set == f] for f in families} if families[1:] else {})
    tables = {
        part: faithfulness_table(rows, in_nats=("estimator", "measured (ceiling)"), seed=seed)
        for part, rows in parts.items()
    }
    if out is not None:
        _write(tables, out)
    groups = len({s.group_id for s in scored})
    steps = sum(int(s.drops.shape[0]) for s in scored if s.method == "estimator")
    show_frame(stdout(), _wide(tables[EVERY]), f"Faithfulness on {steps} steps of {groups} images")
    if families[1:]:
        show_frame(stdout(), _by_family(tables), "The estimator by task set, beside raw attention and the ceiling")
    typer.echo("r², R²: with the measured effect of hiding each region. LDS: rank correlation over random masks.")
    typer.echo("drop@n: nats a step loses when the n regions ranked first are hidden together; larger is better.")
    if groups < 20:
        typer.echo(f"Only {groups} images: take the intervals with care.")


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.assign(cell=[f"{r.value:.2f} ({r.low:.2f} to {r.high:.2f})" for r in table.itertuples()])
    kept = shown[shown["figure"].isin(["r²", "R²", "LDS", "drop@1", "drop@5", "ms per token"])]
    wide = kept.pivot(index="method", columns="figure", values="cell")
    order = list(dict.fromkeys(kept["figure"]))
    return wide.loc[list(dict.fromkeys(kept["method"])), order].fillna("").reset_index()


def _by_family(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for family, table in tables.items():
        value = table.set_index(["method", "figure"])["value"]
        rows.append(
            {"task set": family, "r²": value["estimator", "r²"], "LDS": value["estimator", "LDS"]}
            | {"raw attention, LDS": value["raw attention", "LDS"], "ceiling, LDS": value["measured (ceiling)", "LDS"]}
        )
    return pd.DataFrame(rows).round(2)


def _write(tables: dict[str, pd.DataFrame], path: Path) -> None:
    """All tables as one, with a column task_set."""
    import pandas as pd

    from trajkit.traces.atomic import replacing

    table = pd.concat([table.assign(task_set=part) for part, table in tables.items()])
    with replacing(path) as file:
        file.write(table.to_csv(index=False).encode())
