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
    SystemOption,
    TemperatureOption,
    TokensOption,
)  # fmt: skip

if TYPE_CHECKING:
    import pandas as pd


def evaluate(
    questions: QuestionsArgument,
    images: ImagesOption = None,
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="quick|all", help="all: also gradients, AttnLRP, TAM, ContextCite.")
    ] = "quick",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Also write the table there.")] = None,
    masks: Annotated[int, typer.Option("--masks", metavar="N", min=8, help="Random masks a run, for LDS.")] = 32,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, help="Masks at once; fewer need less memory.")
    ] = 64,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure what hiding regions really does to each step, and compare with what the estimator says.

    Use images that the estimator was not trained on. Every figure stands beside raw attention, chance (the floor) and
    the measured effects of single regions themselves (leave-one-out), with 95 % intervals that resample images.

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
    from trajkit.cli.questions import Items, exit_if_left_out
    from trajkit.errors import InputError
    from trajkit.progress import progress
    from trajkit.traces.questions import read_questions

    one_of("--methods", methods, ("quick", "all"))
    asked = read_questions(questions, images)
    vlm = load_model(model, system)
    ours = load_estimator(estimator, vlm)
    bound = ours.binding
    how = Measuring(bound.pooling, bound.ablation, bound.region_method, masks)
    rng = np.random.default_rng(seed)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    compared: dict[str, Method | None] = {
        "estimator": lambda run, measured: ours.predict(features(run)),
        "raw attention": lambda run, measured: raw_attention(features(run), vlm.n_features),
        "leave-one-out (measured)": None,
        "random (floor)": lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    if methods == "all":
        from trajkit.attribution.baselines import baselines

        compared |= {name: baseline_method(vlm, baseline) for name, baseline in baselines(how.ablation).items()}
    scored, sampling, wanted = [], Sampling(temperature, max_new_tokens, seed), Items(asked)
    with progress("measuring", total=len(asked)) as bar:
        for run in generations(vlm, wanted, sampling, how.region_method, batch_size=1):
            if run.spans:
                measured = measure(vlm, run, how, seed, batch_size)
                scored += score_run(vlm, run, measured, compared, how.ablation, batch_size)
            bar.advance(run.item.id)
    if not scored:
        raise InputError(f"none of the {len(asked)} runs had a step; is this a thinking model?")
    families = sorted({s.task_set for s in scored})
    in_nats = ("estimator", "leave-one-out (measured)")
    table = faithfulness_table(scored, in_nats=in_nats, seed=seed)
    by_family = {
        family: faithfulness_table([s for s in scored if s.task_set == family], in_nats=in_nats, seed=seed)
        for family in (families if families[1:] else [])
    }
    if out is not None:
        _write([table.assign(task_set=""), *(t.assign(task_set=f) for f, t in by_family.items())], out)
    groups = len({s.group_id for s in scored})
    steps = sum(int(s.drops.shape[0]) for s in scored if s.method == "estimator")
    show_frame(stdout(), _wide(table), f"Faithfulness on {steps} steps of {groups} images")
    if by_family:
        show_frame(stdout(), _by_family(by_family), "The estimator by task set, beside raw attention and leave-one-out")
    typer.echo("r², R²: with the measured effect of hiding each region. LDS: rank correlation over random masks.")
    typer.echo("drop@n: nats a step loses when the n regions ranked first are hidden together; larger is better.")
    if groups < 20:
        typer.echo(f"Only {groups} images: take the intervals with care.")
    exit_if_left_out(wanted.left_out, asked)


def _wide(table: pd.DataFrame) -> pd.DataFrame:
    shown = table.assign(cell=[_cell(r) for r in table.itertuples()])
    kept = shown[shown["figure"].isin(["r²", "R²", "LDS", "drop@1", "drop@5", "ms per token"])]
    wide = kept.pivot(index="method", columns="figure", values="cell")
    order = list(dict.fromkeys(kept["figure"]))
    return wide.loc[list(dict.fromkeys(kept["method"])), order].fillna("").reset_index()


def _cell(row: Any) -> str:
    """A value above its interval: side by side they would not fit a terminal."""
    if row.figure == "ms per token":
        return f"{row.value:.2g}"
    return f"{row.value:.2f}\n{row.low:.2f}–{row.high:.2f}"


def _by_family(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    import pandas as pd

    rows = []
    for family, table in tables.items():
        value = table.set_index(["method", "figure"])["value"].round(2)
        rows.append(
            {
                "task set": family,
                "r²": value.get(("estimator", "r²"), ""),
                "LDS": value.get(("estimator", "LDS"), ""),
                "raw attention, LDS": value.get(("raw attention", "LDS"), ""),
                "leave-one-out, LDS": value.get(("leave-one-out (measured)", "LDS"), ""),
            }
        )
    return pd.DataFrame(rows)


def _write(tables: list[pd.DataFrame], path: Path) -> None:
    """All tables as one; the column task_set is empty where it is about all runs."""
    import pandas as pd

    from trajkit.text import for_spreadsheet
    from trajkit.traces.atomic import replacing

    table = pd.concat(tables)
    with replacing(path) as file:
        file.write(for_spreadsheet(table).encode())
