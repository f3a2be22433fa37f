"""`trajkit serve`: an OpenAI-compatible server whose answers say what they rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.options import DetectorsOption, EstimatorOption, ModelOption, SystemOption
from trajkit.cli.policy import Asked, EnoughOption, FromOption, HintOption, PolicyOption, TriesOption

if TYPE_CHECKING:
    from trajkit.live.history import History
    from trajkit.live.query import RunSource

_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def serve(
    model: ModelOption = None,
    system: SystemOption = None,
    estimator: EstimatorOption = None,
    detectors: DetectorsOption = None,
    policy: PolicyOption = None,
    tries: TriesOption = None,
    start: FromOption = None,
    hint: HintOption = None,
    enough: EnoughOption = False,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; any but this machine's needs --token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="0 for any that is free.")] = 8321,
    token: Annotated[
        str | None,
        typer.Option(
            "--token", envvar="TRAJKIT_TOKEN", show_envvar=True, help="What clients must bear as their API key."
        ),
    ] = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="URL",
            help="Have another server generate (vLLM, SGLang: http://localhost:8000/v1), and follow it with --model, "
            "the same checkpoint.",
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(
            "--upstream-model", metavar="NAME", show_default="its only one", help="What that server calls it."
        ),
    ] = None,
    upstream_key: Annotated[
        str | None, typer.Option("--upstream-key", envvar="TRAJKIT_UPSTREAM_KEY", help="That server's API key.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", show_default="the model's", help="What clients call the model.")
    ] = None,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs at once; more wait.")] = 1,
    waiting: Annotated[int, typer.Option("--waiting", min=0, help="Requests that may wait; more are refused.")] = 32,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="That a run may take, most.")] = 600.0,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="TRACES",
            help="Keep every run in this folder, as traces that other commands read. The page then shows all of them, "
            "and goes on where it was when the server is started again.",
        ),
    ] = None,
) -> None:
    """Serve a model to any client of OpenAI's API. Its answers come as ever, and beside them, under the key `trajkit`,
    each step of the thinking with the regions it rests on, its risk, and whether the monitor alarmed.

    [bold]Examples[/bold]

      trajkit serve

      trajkit serve --policy stop --port 9000 --save runs

      trajkit serve --upstream http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator

      curl localhost:8321/v1/models

    In a request, {"trajkit": {"policy": "ask-again", "effects": "all"}} asks for another policy, and for all effects.
    """
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.output import UsageError, note
    from trajkit.traces.writer import check_writer

    asked = Asked(policy, tries, start, hint, enough)
    asked.check()
    if host not in _LOOPBACK and not token:
        raise UsageError(f"--host {host} lets other machines in; set --token, which they must then bear.")
    serve_forever = _serving()
    if save is not None:
        check_writer(save)
    vlm = load_model(model, system)
    estimate = load_estimator(estimator, vlm)
    found = load_detectors_for(detectors, vlm)
    monitor = found.monitor if found else None

    from trajkit.attribution.explainer import Watching
    from trajkit.live.app import Limits, Server
    from trajkit.live.generation import Engine
    from trajkit.live.local import LocalEngine
    from trajkit.live.upstream import UpstreamEngine, find_model

    watching = Watching(vlm, estimate, monitor, asked.policy_with(monitor, found.enough if found else None))
    engine: Engine
    if upstream is None:
        engine = LocalEngine(watching, name or Path(vlm.name).name)
    else:
        there = upstream.rstrip("/")
        theirs = asyncio.run(find_model(there, upstream_key, upstream_model))
        engine = UpstreamEngine(there, theirs, watching, key=upstream_key, served_name=name or "")
    history, saved = kept_in(save)
    server = Server(engine, Limits(runs, waiting, seconds), token, history, sources=saved)
    serve_forever(server, host, port, note)


def kept_in(folder: Path | None) -> tuple[History, list[RunSource]]:
    """The runs of a server that are kept in a folder, if they are, and those of before that are in it.

    Raises InputError where another process writes to it, or it cannot be written to.
    """
    from trajkit.live.history import History
    from trajkit.live.keeping import Keeper
    from trajkit.live.saved import SavedRuns

    if folder is None:
        return History(), []
    return History(keeper=Keeper(folder)), [SavedRuns(folder)]


def _serving() -> Callable[..., None]:
    """What serves, or an error that says how to install it, before anything is loaded."""
    from trajkit.errors import InputError

    try:
        from trajkit.live.serving import serve_forever
    except ImportError as error:
        raise InputError(f"the server needs {error.name}: pip install 'trajkit[live]'.") from error
    return serve_forever
