"""`trajkit serve`: an OpenAI-compatible server whose answers say what they rest on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from trajkit.cli.options import DetectorsOption, EstimatorOption, ModelOption, SystemOption
from trajkit.cli.policy import Asked, EnoughOption, FromOption, HintOption, PolicyOption, TriesOption

_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_RUNS_UPSTREAM = 8


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
    upstream_stall: Annotated[
        float,
        typer.Option(
            "--upstream-stall", metavar="SECONDS", min=1.0, help="Without a byte, after which it counts as dead."
        ),
    ] = 60.0,
    check_logprobs: Annotated[
        bool,
        typer.Option(
            "--check-logprobs",
            help="Ask that server for log-probabilities, to tell where its weights are not those of --model.",
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", show_default="the model's", help="What clients call the model.")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            "--runs", min=1, show_default=f"1, or {_RUNS_UPSTREAM} with --upstream", help="Runs at once; more wait."
        ),
    ] = None,
    waiting: Annotated[int, typer.Option("--waiting", min=0, help="Requests that may wait; more are refused.")] = 32,
    seconds: Annotated[float, typer.Option("--seconds", min=1.0, help="That a run may take, most.")] = 600.0,
) -> None:
    """Serve a model to any client of OpenAI's API. Its answers come as ever, and beside them, under the key `trajkit`,
    each step of the thinking with the regions it rests on, its risk, and whether the monitor alarmed.

    [bold]Examples[/bold]

      trajkit serve

      trajkit serve --policy stop --port 9000

      trajkit serve --upstream http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator

      curl localhost:8321/v1/models

    In a request, {"trajkit": {"policy": "ask-again", "alpha": 0.05, "effects": "all"}} asks for another policy and
    false-alarm rate, and for all effects.
    """
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.output import UsageError, note

    asked = Asked(policy, tries, start, hint, enough)
    asked.check()
    if check_logprobs and upstream is None:
        raise UsageError("--check-logprobs is about another server; name it with --upstream.")
    if host not in _LOOPBACK and not token:
        raise UsageError(f"--host {host} lets other machines in; set --token, which they must then bear.")
    serve_forever = _serving()
    vlm = load_model(model, system)
    estimate = load_estimator(estimator, vlm)
    found = load_detectors_for(detectors, vlm)
    monitor = found.monitor if found else None

    from trajkit.attribution.explainer import Watching
    from trajkit.live.app import Limits, Server
    from trajkit.live.generation import Engine
    from trajkit.live.local import LocalEngine
    from trajkit.live.other_server import find_model
    from trajkit.live.upstream import UpstreamEngine

    watching = Watching(vlm, estimate, monitor, asked.policy_with(monitor, found.enough if found else None))
    engine: Engine
    if upstream is None:
        engine = LocalEngine(watching, name or Path(vlm.name).name)
    else:
        there = upstream.rstrip("/")
        theirs = asyncio.run(find_model(there, upstream_key, upstream_model))
        engine = UpstreamEngine(
            there, theirs, watching, upstream_key, upstream_stall, served_name=name or "", check_logprobs=check_logprobs
        )
    at_once = runs or (1 if upstream is None else _RUNS_UPSTREAM)
    serve_forever(Server(engine, Limits(at_once, waiting, seconds), token), host, port, note)


def _serving() -> Callable[..., None]:
    """What serves, or an error that says how to install it, before anything is loaded."""
    from trajkit.errors import InputError

    try:
        from trajkit.live.serving import serve_forever
    except ImportError as error:
        raise InputError(f"the server needs {error.name}: pip install 'trajkit[live]'.") from error
    return serve_forever
