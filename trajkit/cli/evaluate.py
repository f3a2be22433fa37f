"""`trajkit evaluate`: how faithful an estimator is on a user's questions, beside other methods."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.options import (
    EstimatorOption,
    ImagesOption,
    ImagesRootOption,
    ModelOption,
    QuestionsArgument,
    SeedOption,
    SystemOption,
    TemperatureOption,
    TokensOption,
)

if TYPE_CHECKING:
    from trajkit.attribution.measure import Generation


def evaluate(
    questions: QuestionsArgument,
    images: ImagesOption = None,
    images_root: ImagesRootOption = None,
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    methods: Annotated[
        str, typer.Option("--methods", metavar="quick|all", help="all: also gradients, AttnLRP, TAM, ContextCite.")
    ] = "quick",
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE.csv", help="Also write the table there.")] = None,
    masks: Annotated[
        int, typer.Option("--masks", metavar="N", min=8, max=10_000, help="Random masks a run, for LDS.")
    ] = 32,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=10_000, help="Masks at once; fewer need less memory.")
    ] = 64,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    seed: SeedOption = 0,
) -> None:
    """Measure what hiding regions really does to each step, and compare with what the estimator says.

    Use images that the estimator was not trained on. Every figure stands beside raw attention, chance (the floor) and
    the measured effects of single regions themselves (leave-one-out), with 95 % intervals that resample images. Steps
    that depend on the image come first: the others hold nothing to agree on. The last lines say what to make of it.

    [bold]Example[/bold]

      trajkit evaluate held-out.jsonl --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator
    """
    from trajkit.aside import aside
    from trajkit.cli.evaluated import ESTIMATOR, FLOOR, RAW, REFERENCE, check_table, show_evaluation, write_tables
    from trajkit.cli.loading import load_estimator, load_libraries, load_model
    from trajkit.cli.options import one_of
    from trajkit.cli.output import note
    from trajkit.cli.questions import Questions
    from trajkit.errors import InputError
    from trajkit.progress import progress
    from trajkit.tables.words import count

    one_of("--methods", methods, ("quick", "all"))
    asked = Questions(questions, images, images_root)
    if out is not None:
        check_table(out)
    load_libraries()
    import numpy as np

    from trajkit.attribution.evaluation import Method, baseline_method, score_run, step_gates
    from trajkit.attribution.features import raw_attention
    from trajkit.attribution.figures import band_table
    from trajkit.attribution.measure import Measuring, generations, measure
    from trajkit.attribution.reliability import metric_reliability
    from trajkit.attribution.replay import replay
    from trajkit.attribution.seen import Seen, warnings
    from trajkit.vlm.generation import Sampling

    vlm = load_model(model, system)
    ours = load_estimator(estimator, vlm)
    bound = ours.binding
    how = Measuring(bound.pooling, bound.ablation, bound.region_method, masks)
    rng = np.random.default_rng(seed)

    def features(run: Generation) -> Any:
        return replay(vlm, run.prompt, run.tokens, run.spans, run.regions, how.pooling).features

    compared: dict[str, Method | None] = {
        ESTIMATOR: lambda run, measured: ours.predict(features(run)),
        RAW: lambda run, measured: raw_attention(features(run), vlm.n_features),
        REFERENCE: None,
        FLOOR: lambda run, measured: rng.normal(size=measured.features.shape[:2]),
    }
    if methods == "all":
        from trajkit.attribution.baselines import baselines

        compared |= {name: baseline_method(vlm, baseline) for name, baseline in baselines(how.ablation).items()}
    sampling, seen = Sampling(temperature, max_new_tokens, seed), Seen()
    sampling.check(vlm, 1)
    scored, estimates, effects, groups = [], [], [], []
    with progress("measuring", total=len(asked)) as bar:
        for item in seen.watching(asked.items(bar.advance)):
            with aside(item, asked.set_aside_item):
                (run,) = generations(vlm, [item], sampling, how.region_method)
                if run.spans:
                    measured = measure(vlm, run, how, seed, batch_size)
                    estimated = ours.predict(measured.features)
                    own = score_run(vlm, run, measured, compared, how.ablation, batch_size)
                    scored += own + step_gates(measured, raw_attention(measured.features, vlm.n_features), estimated)
                    thinking = [span.kind == "thinking" for span in run.spans]
                    estimates.append(estimated[thinking])
                    effects.append(measured.single.T[thinking])
                    groups.append(run.item.group_id)
            bar.advance(item.id)
    if not scored:
        raise InputError(f"none of {count(len(asked), 'run')} had a step; is this a thinking model?")
    warned = warnings(seen, ours.card)
    for warning in warned:
        note(f"trajkit: warning: {warning}")
    families = sorted({s.task_set for s in scored})
    in_nats = (ESTIMATOR, REFERENCE)
    table = band_table(scored, in_nats=in_nats, seed=seed)
    by_family = {
        family: band_table([s for s in scored if s.task_set == family], in_nats=in_nats, seed=seed)
        for family in (families if families[1:] else [])
    }
    reliability = metric_reliability(estimates, effects, groups, seed=seed)
    if out is not None:
        write_tables(table, by_family, reliability, out)
    show_evaluation(scored, table, by_family, reliability, warned, seed)
    asked.exit_if_left_out()
