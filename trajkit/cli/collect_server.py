"""`trajkit collect --server`: another server makes the runs, and they are explained here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajkit.cli.options import server_address
from trajkit.cli.output import UsageError

if TYPE_CHECKING:
    from trajkit.attribution.estimator import EffectEstimator
    from trajkit.attribution.item import Judge
    from trajkit.cli.questions import Questions
    from trajkit.live.asking import Wanted
    from trajkit.progress import Bar
    from trajkit.traces.writer import TraceWriter
    from trajkit.vlm.generation import Sampling
    from trajkit.vlm.model import VLM

CONCURRENCY = 16
STALL = 120.0
_PANEL = "Another server generates"

ServerOption = Annotated[
    str | None,
    typer.Option(
        "--server",
        rich_help_panel=_PANEL,
        metavar="URL",
        help="Ask this server for the runs (vLLM, SGLang, or another with OpenAI's API: http://localhost:8000/v1), and "
        "explain them with --model, the same checkpoint.",
    ),
]
ServerModelOption = Annotated[
    str | None,
    typer.Option(
        "--server-model",
        rich_help_panel=_PANEL,
        metavar="NAME",
        show_default="its only one",
        help="What it calls the model.",
    ),
]
ServerKeyOption = Annotated[
    str | None, typer.Option("--server-key", rich_help_panel=_PANEL, envvar="TRAJKIT_SERVER_KEY", help="Its API key.")
]
ConcurrencyOption = Annotated[
    int,
    typer.Option(
        "--concurrency", rich_help_panel=_PANEL, metavar="N", min=1, max=4096, help="Requests in flight, most."
    ),
]
StallOption = Annotated[
    float,
    typer.Option(
        "--server-stall",
        rich_help_panel=_PANEL,
        metavar="SECONDS",
        min=1.0,
        help="Without a byte, after which a request counts as failed. It is made again, a few times.",
    ),
]


@dataclass(frozen=True)
class Server:
    """The server that is to be asked."""

    url: str
    model: str | None
    key: str | None
    concurrency: int
    stall: float

    @classmethod
    def of(cls, url: str | None, model: str | None, key: str | None, concurrency: int, stall: float) -> Server | None:
        """None where no URL is given. Wrong usage for one that is none, and for options about a server without one."""
        if url is None:
            given = {
                "--server-model": model is not None,
                "--concurrency": concurrency != CONCURRENCY,
                "--server-stall": stall != STALL,
            }
            if about := [name for name, is_given in given.items() if is_given]:
                raise UsageError(f"{about[0]} is about another server; name it with --server.")
            return None
        return cls(server_address("--server", url), model, key, concurrency, stall)

    @cached_property
    def told(self) -> dict[str, Any]:
        """What it says of itself and its model. Raises UpstreamError where it cannot be asked, InputError where what
        asks is not installed."""
        from trajkit.errors import InputError

        try:
            from trajkit.live.other_server import described
        except ImportError as error:
            raise InputError(f"--server needs {error.name}: pip install 'trajkit[live]'.") from error
        return described(self.url, self.key, self.model)


def collect_from(
    server: Server,
    vlm: VLM,
    asked: Questions,
    samples: int,
    sampling: Sampling,
    writer: TraceWriter,
    *,
    estimator: EffectEstimator,
    made_by: dict[str, Any],
    judge: Judge,
    keep_hidden: bool,
) -> None:
    """Collect what is missing. Raises UpstreamError where the server fails all the time, and NoEntryError."""
    from trajkit.aside import aside
    from trajkit.live.asked import collect_asked
    from trajkit.live.asking import Asking
    from trajkit.live.other_server import OtherServer, UpstreamError
    from trajkit.progress import progress

    missing = {
        question.id: [i for i in range(samples) if f"{question.id}-{i}" not in writer.ids] for question in asked.asked
    }
    there, of_id = OtherServer(server.url, server.key, server.stall), {one.id: one for one in asked.asked}
    total = len(asked) * samples
    with (
        progress("collecting", total=total, completed=total - sum(map(len, missing.values()))) as bar,
        Asking(vlm, there, server.told["model"], sampling, server.concurrency) as asking,
    ):
        runs = collect_asked(
            asking,
            _wanted(missing, asked, writer, bar),
            estimator=estimator,
            made_by=made_by,
            judge=judge,
            keep_hidden=keep_hidden,
            set_aside=asked.set_aside_item,
            over=lambda one: bar.advance(of_id[one.item.id].image.name),
        )
        try:
            for trace in runs:
                with aside(of_id[trace.task_id], asked.set_aside):
                    writer.add(trace)
        except UpstreamError as error:
            raise UpstreamError(f"{error} The runs so far are safe; the same command goes on from there.") from error


def _wanted(missing: dict[str, list[int]], asked: Questions, writer: TraceWriter, bar: Bar) -> Iterator[Wanted]:
    """The runs that are not there yet. Where all of a question's are, its image is not opened."""
    from trajkit.aside import aside
    from trajkit.live.asking import Wanted

    for question in asked.asked:
        item = None
        with aside(question, asked.set_aside):
            writer.require_same_question(question.id, question.question, question.target or "")
            if missing[question.id]:
                item = asked.item(question)
                writer.require_same_image(question.id, item.image)  # type: ignore[arg-type]  # of one image
        if item is None:
            bar.advance(question.image.name, len(missing[question.id]))
            continue
        yield from (Wanted(item, repeat) for repeat in missing[question.id])
