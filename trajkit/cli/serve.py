"""`trajkit serve`: an OpenAI-compatible server whose answers say what they rest on."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.access import AllowHostOption, AllowOriginOption, HostOption, PortOption, TokenOption, access
from trajkit.cli.options import DetectorsOption, EstimatorOption, ModelOption, SystemOption, server_address
from trajkit.cli.policy import Asked, EnoughOption, FromOption, HintOption, PolicyOption, TriesOption
from trajkit.live.logs import Level, Style

if TYPE_CHECKING:
    from trajkit.live.history import History
    from trajkit.live.query import RunSource
    from trajkit.live.webhooks import Webhooks

_RUNS_UPSTREAM = 8
_STALL = 60.0
_OTHER, _LOAD, _HOOKS, _LOGS = "Another server generates", "Load", "Webhooks", "Log"
"""Headings of options."""


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
    host: HostOption = "127.0.0.1",
    port: PortOption = 8321,
    token: TokenOption = None,
    allow_host: AllowHostOption = None,
    allow_origin: AllowOriginOption = None,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            rich_help_panel=_OTHER,
            metavar="URL",
            help="Have another server generate (vLLM, SGLang: http://localhost:8000/v1), and follow it with --model, "
            "the same checkpoint.",
        ),
    ] = None,
    upstream_model: Annotated[
        str | None,
        typer.Option(
            "--upstream-model",
            rich_help_panel=_OTHER,
            metavar="NAME",
            show_default="its only one",
            help="What that server calls it.",
        ),
    ] = None,
    upstream_key: Annotated[
        str | None,
        typer.Option(
            "--upstream-key", rich_help_panel=_OTHER, envvar="TRAJKIT_UPSTREAM_KEY", help="That server's API key."
        ),
    ] = None,
    upstream_stall: Annotated[
        float,
        typer.Option(
            "--upstream-stall",
            rich_help_panel=_OTHER,
            metavar="SECONDS",
            min=1.0,
            help="Without a byte, after which it counts as dead.",
        ),
    ] = _STALL,
    check_logprobs: Annotated[
        bool,
        typer.Option(
            "--check-logprobs",
            rich_help_panel=_OTHER,
            help="Ask that server for log-probabilities, to tell where its weights are not those of --model.",
        ),
    ] = False,
    name: Annotated[
        str | None, typer.Option("--name", show_default="the model's", help="What clients call the model.")
    ] = None,
    runs: Annotated[
        int | None,
        typer.Option(
            "--runs",
            rich_help_panel=_LOAD,
            min=1,
            show_default=f"1, or {_RUNS_UPSTREAM} with --upstream",
            help="Runs at once; more wait.",
        ),
    ] = None,
    waiting: Annotated[
        int, typer.Option("--waiting", rich_help_panel=_LOAD, min=0, help="Requests that may wait; more are refused.")
    ] = 32,
    seconds: Annotated[
        float, typer.Option("--seconds", rich_help_panel=_LOAD, min=1.0, help="That a run may take, most.")
    ] = 600.0,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            metavar="TRACES",
            help="Keep every run in this folder, as traces that other commands read. The page then shows all of them, "
            "and goes on where it was when the server is started again.",
        ),
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(
            "--webhook",
            rich_help_panel=_HOOKS,
            metavar="URL",
            help="Where alarms, decisions and ends of runs are sent, signed as Standard Webhooks are; repeat it for "
            "several.",
        ),
    ] = None,
    webhook_secret: Annotated[
        str | None,
        typer.Option(
            "--webhook-secret",
            rich_help_panel=_HOOKS,
            envvar="TRAJKIT_WEBHOOK_SECRET",
            show_envvar=True,
            help='What they are signed by: "whsec_$(openssl rand -base64 32)".',
        ),
    ] = None,
    webhook_text: Annotated[
        bool,
        typer.Option("--webhook-text", rich_help_panel=_HOOKS, help="Send questions and what the model writes, too."),
    ] = False,
    log_format: Annotated[
        Style, typer.Option("--log-format", rich_help_panel=_LOGS, help="Lines for people, or one JSON object a line.")
    ] = "text",
    log_level: Annotated[
        Level,
        typer.Option(
            "--log-level", rich_help_panel=_LOGS, help="`debug` logs every request and verdict; no level what is said."
        ),
    ] = "info",
) -> None:
    """Serve a model to any client of OpenAI's API. Its answers come as ever, and beside them, under the key `trajkit`,
    each step of the thinking with the regions it rests on, its risk, and whether the monitor alarmed.

    [bold]Examples[/bold]

      trajkit serve

      trajkit serve --policy stop --port 9000 --save runs

      trajkit serve --upstream http://localhost:8000/v1 --model Qwen/Qwen3-VL-8B-Thinking --estimator estimator

      trajkit serve --webhook https://example.org/hook --log-format json

      curl localhost:8321/v1/models

    In a request, {"trajkit": {"policy": "ask-again", "alpha": 0.05, "effects": "all"}} asks for another policy and
    false-alarm rate, and for all effects.
    """
    from trajkit.cli.loading import load_detectors_for, load_estimator, load_model
    from trajkit.cli.output import note
    from trajkit.live.logs import logging_to
    from trajkit.progress import silent
    from trajkit.traces.writer import check_writer

    asked = Asked(policy, tries, start, hint, enough)
    asked.check()
    _check_upstream(
        upstream,
        {
            "--upstream-model": upstream_model is not None,
            "--upstream-stall": upstream_stall != _STALL,
            "--check-logprobs": check_logprobs,
        },
    )
    who = access(host, token, allow_host, allow_origin)
    serve_forever = _serving()
    hooks = _webhooks(webhook or [], webhook_secret, webhook_text)
    if save is not None:
        check_writer(save)
    as_json = log_format == "json"
    with logging_to(sys.stderr, log_format, log_level), silent() if as_json else nullcontext():
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
            there = server_address("--upstream", upstream)
            theirs = find_model(there, upstream_key, upstream_model)
            engine = UpstreamEngine(
                there,
                theirs,
                watching,
                upstream_key,
                upstream_stall,
                served_name=name or "",
                check_logprobs=check_logprobs,
            )
        history, saved = kept_in(save)
        limits = Limits(runs or (1 if upstream is None else _RUNS_UPSTREAM), waiting, seconds)
        server = Server(engine, limits, who, history, sources=saved, webhooks=hooks)
        serve_forever(server, host, port, None if as_json else note)


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


def _check_upstream(url: str | None, given: Mapping[str, bool]) -> None:
    """Wrong usage for an address that is none, and for options about another server where none is named."""
    from trajkit.cli.output import UsageError

    if url is not None:
        server_address("--upstream", url)
    about = [name for name, is_given in given.items() if is_given]
    if about and url is None:
        raise UsageError(f"{about[0]} is about another server; name it with --upstream.")


def _webhooks(urls: Sequence[str], secret: str | None, texts: bool) -> Webhooks | None:
    """What tells them, if there are any. Wrong usage for a secret or an address that is none."""
    from trajkit.cli.output import UsageError
    from trajkit.errors import InputError
    from trajkit.live.webhooks import Signer, Webhooks

    if not urls:
        if texts:
            raise UsageError("--webhook-text is about what webhooks are sent; name where with --webhook.")
        return None
    try:
        return Webhooks(urls, Signer(secret or ""), texts)
    except InputError as error:
        raise UsageError(str(error)) from error


def _serving() -> Callable[..., None]:
    """What serves, or an error that says how to install it, before anything is loaded."""
    from trajkit.errors import InputError

    try:
        from trajkit.live.serving import serve_forever
    except ImportError as error:
        raise InputError(f"the server needs {error.name}: pip install 'trajkit[live]'.") from error
    return serve_forever
