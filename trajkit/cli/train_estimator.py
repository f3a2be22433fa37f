"""`trajkit train-estimator`: an effect estimator for a user's model, from a folder of images and questions."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import (
    ImagesOption,
    ImagesRootOption,
    ModelOption,
    QuestionsArgument,
    SystemOption,
    TemperatureOption,
    TokensOption,
)

if TYPE_CHECKING:
    from trajkit.attribution.training import TrainingReport

FEW = 20
"""Runs held out below which a figure of them says little."""


def train_estimator(
    questions: QuestionsArgument,
    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="FOLDER", help="Folder to write the estimator to; one that is there is replaced."
        ),
    ],
    images: ImagesOption = None,
    images_root: ImagesRootOption = None,
    model: ModelOption = None,
    system: SystemOption = None,
    kind: Annotated[str, typer.Option("--kind", metavar="network|linear", help="linear: the papers' map.")] = "network",
    ablation: Annotated[
        str, typer.Option("--ablation", metavar="mean|blur|gray|tokens", help="How regions are hidden.")
    ] = "mean",
    regions: Annotated[
        str, typer.Option("--regions", metavar="METHOD", help="vision, dinov3[:SOURCE], blocks or voronoi.")
    ] = "vision",
    masks: Annotated[int, typer.Option("--masks", metavar="N", min=8, max=10_000, help="Random masks a run.")] = 32,
    batch_size: Annotated[
        int, typer.Option("--batch-size", metavar="N", min=1, max=10_000, help="Masks at once; fewer need less memory.")
    ] = 64,
    work: Annotated[
        Path | None,
        typer.Option("--work", metavar="FOLDER", show_default="OUT.measured", help="Where measured runs are kept."),
    ] = None,
    temperature: TemperatureOption = None,
    max_new_tokens: TokensOption = None,
    seed: Annotated[
        int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Same seed, same estimator.")
    ] = 0,
) -> None:
    """Measure on your own questions what hiding each region does to each step, and learn to tell it from attention.

    One run of every question is generated and measured: as many passes of the model as there are masks and regions,
    about a hundred a run. Some hundreds of questions make a good estimator. The last line says how faithful it is on
    images that it was not trained on.

    [bold]Example[/bold]

      trajkit train-estimator questions.jsonl --model Qwen/Qwen3-VL-8B-Thinking --out estimator

    Stop it at any moment and run it again: runs already measured are read from OUT.measured (or --work), which may be
    removed when you are done. Lines, images and runs that cannot be used are left out, and the command ends with 1.
    """
    from trajkit.cli.loading import load_libraries, load_model
    from trajkit.cli.options import one_of
    from trajkit.cli.output import Interrupted
    from trajkit.cli.questions import Questions
    from trajkit.folders import check_folder
    from trajkit.progress import progress
    from trajkit.tables.words import score

    one_of("--ablation", ablation, ("mean", "blur", "gray", "tokens"))
    one_of("--kind", kind, ("network", "linear"))
    asked = Questions(questions, images, images_root)
    check_folder(out)
    load_libraries()
    from trajkit.attribution.measure import MeasuredStore, Measuring
    from trajkit.attribution.regions import check_method
    from trajkit.attribution.training import train_estimator as train
    from trajkit.vlm.generation import Sampling

    check_method(regions)
    how = Measuring("sum", ablation, regions, masks)  # type: ignore[arg-type]
    vlm = load_model(model, system)
    sampling = Sampling(temperature, max_new_tokens, seed)
    about = asdict(how) | asdict(sampling) | {"fingerprint": vlm.fingerprint, "system": system}
    folder = work or out.with_name(out.name + ".measured")
    store = MeasuredStore(folder, about)
    try:
        with progress("measuring", total=len(asked)) as bar:
            estimator, report = train(
                vlm,
                asked.items(bar.advance),
                kind=kind,  # type: ignore[arg-type]
                how=how,
                sampling=sampling,
                store=store,
                batch_size=batch_size,
                measured=bar.advance,
                set_aside=asked.set_aside_item,
                seed=seed,
                advance=lambda loss: bar.advance(f"fitting, loss {score(loss)}", 0),
            )
    except KeyboardInterrupt:
        kept = len(list(folder.glob("*.npz")))
        raise Interrupted.keeping(kept, folder) from None
    estimator.save(out)
    typer.echo(summary(report))
    typer.echo(
        f"Wrote {out}. Next, on other images: trajkit evaluate HELD_OUT.jsonl --model {vlm.name} --estimator {out}"
    )
    asked.exit_if_left_out()


def summary(report: TrainingReport) -> str:
    """What a training took and what came of it, in a few lines."""
    from trajkit.tables.words import count, duration, score

    seconds = max(report.measuring_seconds, 1e-9)
    return (
        f"Measured {count(report.runs, 'run')} with {count(report.steps, 'step')} in "
        f"{duration(report.measuring_seconds)} ({report.steps / seconds:.1f} steps/s, "
        f"{report.passes / seconds:.0f} passes/s), fitted in {duration(report.fitting_seconds)}; peak memory "
        f"{report.peak_gb:.1f} GB.\n"
        f"On {report.held_out:,} of them, held out: r² {score(report.r2)} with measured effects, LDS "
        f"{score(report.lds)}"
        f"{'' if report.held_out >= FEW else '; too few to tell much'}."
    )
