"""Options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

ModelOption = Annotated[
    str | None,
    typer.Option(
        "--model",
        metavar="FOLDER|ID",
        show_default="the demo model",
        help="Checkpoint folder or hub id, such as Qwen/Qwen3-VL-8B-Thinking.",
    ),
]
SystemOption = Annotated[
    str | None, typer.Option("--system", metavar="TEXT", help="System prompt, for models that need one to think.")
]
EstimatorOption = Annotated[
    Path | None,
    typer.Option(
        "--estimator",
        metavar="FOLDER",
        show_default="the demo's estimator",
        help="Effect estimator made for that model.",
    ),
]
DetectorsOption = Annotated[
    str | None,
    typer.Option(
        "--detectors",
        metavar="FOLDER|none",
        show_default="the demo's, on the demo model",
        help="What watches the run; `none` for no risk and no alarm.",
    ),
]
SeedOption = Annotated[int, typer.Option("--seed", metavar="N", min=0, max=2**31 - 1, help="Same seed, same runs.")]
TemperatureOption = Annotated[
    float | None,
    typer.Option(
        "--temperature",
        metavar="T",
        min=0.0,
        max=10.0,
        show_default="the model's own",
        help="Sampling temperature; 0 takes the likeliest token.",
    ),
]
TokensOption = Annotated[
    int | None,
    typer.Option(
        "--max-new-tokens",
        metavar="N",
        min=1,
        max=2**20,
        show_default="the model's own",
        help="Stop a run after so many tokens.",
    ),
]
JudgeOption = Annotated[
    str, typer.Option("--judge", metavar="JUDGE", help="What makes an answer right: one of those listed below.")
]
TracesArgument = Annotated[
    Path, typer.Argument(metavar="TRACES", help="A .parquet file of runs, or a folder of them, as `collect` writes.")
]
QuestionsArgument = Annotated[
    Path, typer.Argument(metavar="QUESTIONS.jsonl", help="One question a line, as for `trajkit collect`.")
]
ImagesOption = Annotated[
    Path | None,
    typer.Option(
        "--images", metavar="DIR", show_default="the folder of QUESTIONS.jsonl", help="Where the questions' images are."
    ),
]
ImagesRootOption = Annotated[
    Path | None,
    typer.Option(
        "--images-root",
        metavar="DIR",
        exists=True,
        file_okay=False,
        show_default="any folder",
        help="Leave out questions whose image, with links followed, is not within DIR.",
    ),
]
WhereOption = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEY=VALUE",
        help="Only runs of which this is true: outcome=hallucination, alarmed=yes, search=…, task=…, model=…, label=…; "
        "repeat it for others.",
    ),
]
EngineOption = Annotated[
    str,
    typer.Option(
        "--engine",
        metavar="local|pool|ray",
        help="Who reads the runs: this process, several, or a Ray cluster. The numbers are the same.",
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        max=4096,
        show_default="as many as cores",
        help="Processes of --engine pool, or of a Ray of this machine.",
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        "--address", metavar="HOST:PORT|auto", show_default="a Ray of this machine", help="Cluster of --engine ray."
    ),
]


def server_address(option: str, url: str) -> str:
    """`url` without a final stroke, when it is an address of a server. Raises UsageError naming the option."""
    from trajkit.cli.output import UsageError

    if not re.match(r"https?://[^/]", url):
        raise UsageError(f"{option} must be an address such as http://localhost:8000/v1; got {url!r}.")
    return url.rstrip("/")


def one_of(option: str, value: str, known: tuple[str, ...]) -> str:
    """`value`, when it is one of those. Raises UsageError naming the option."""
    from trajkit.cli.output import UsageError

    if value not in known:
        raise UsageError(f"{option} must be one of {', '.join(known)}; got {value!r}.")
    return value
