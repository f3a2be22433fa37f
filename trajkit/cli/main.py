"""Entry point of the `trajkit` command: the app, and how errors reach a person."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from trajkit.cli import (
    analyze,
    attribute,
    collect,
    demo,
    doctor,
    evaluate,
    export,
    fit,
    import_,
    monitor,
    report,
    serve,
    stream,
    train_estimator,
    view,
)
from trajkit.cli.output import Interrupted, UsageError, one_line
from trajkit.console import cleaned_streams
from trajkit.errors import TrajkitError

EXIT_ERROR = 1
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
_TOGETHER = 1.0
"""Seconds after a first signal in which others are taken for the same."""
STOPS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that stop a command: each is answered like Ctrl-C, and the exit code is 128 + its number."""


class _Flags:
    """A command whose help shows no type beside a flag."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)  # type: ignore[misc]
        for param in params:
            if getattr(param, "is_flag", False):
                param.metavar = ""
        return params


class _Command(_Flags, TyperCommand):
    pass


class _Group(_Flags, TyperGroup):
    pass


def _help(function: Any) -> str:
    """The docstring with each paragraph on one line, as typer breaks lines where the source does; examples are kept."""
    paragraphs = inspect.getdoc(function).split("\n\n")  # type: ignore[union-attr]
    return "\n\n".join(p if "\n " in f"\n{p}" else p.replace("\n", " ") for p in paragraphs)


app = typer.Typer(
    name="trajkit",
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _name, _function, _panel, _short in (
    ("demo", demo.demo, "See it", "Watch the built-in model think, then read a report on its runs."),
    ("stream", stream.stream, "See it", "Ask about one image; see each step and what it rests on, live."),
    ("serve", serve.serve, "See it", "Serve a model to any OpenAI client; answers say what they rest on."),
    ("view", view.view, "See it", "Look at saved runs in a browser, and label them."),
    ("collect", collect.collect, "On your own images", "Run a model on your questions and save every run."),
    ("import", import_.import_, "On your own images", "Bring runs that another tool logged."),
    ("attribute", attribute.attribute, "On your own images", "Give runs of another tool's log their effects."),
    (
        "train-estimator",
        train_estimator.train_estimator,
        "On your own model",
        "Learn a model's effects, by hiding regions.",
    ),
    ("evaluate", evaluate.evaluate, "On your own model", "Say how faithful an estimator is, beside other methods."),
    ("fit", fit.fit, "On your own images", "Learn from saved runs to tell a failing one mid-run."),
    ("monitor", monitor.monitor, "On your own images", "Replay the alarm over saved runs, or watch running ones."),
    ("analyze", analyze.analyze, "On your own images", "Compare saved runs by how they ended, in tables."),
    ("report", report.report, "On your own images", "Write a page to explore saved runs in, offline."),
    ("export", export.export, "On your own images", "Take saved runs back to other tools."),
    ("doctor", doctor.doctor, "On this machine", "Check libraries, GPU and the demo's data."),
):
    app.command(
        _name,
        cls=_Command,
        help=_help(_function),
        rich_help_panel=_panel,
        short_help=_short,
        no_args_is_help=_name not in ("demo", "doctor", "serve"),
        epilog={"collect": collect.FIELDS_OF_A_LINE, "import": import_.FORMATS_AND_JUDGES}.get(_name),
    )(_function)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"trajkit {version('trajkit')}")
        raise typer.Exit


@app.callback()
def trajkit(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and stop.")
    ] = False,
) -> None:
    """See which image regions ground each reasoning step of a vision-language model, while it is still thinking,
    and whether the run is going wrong.

    [bold]Start here[/bold]

      trajkit demo
      trajkit stream photo.png "sort row 2 up."

    [bold]On your own model[/bold]: an estimator for it, once

      trajkit train-estimator questions.jsonl --model Qwen/Qwen3-VL-8B-Thinking --out estimator

    [bold]On your own images[/bold]: one line a question, {"image": …, "question": …, "target": …}

      trajkit collect questions.jsonl --out traces
      trajkit fit     traces --out detectors
      trajkit monitor traces --detectors detectors
      trajkit view    traces --detectors detectors

    [bold]From your logs[/bold]: inspect, vLLM, lm-eval, lmms-eval, …

      trajkit import    run.eval --out runs
      trajkit attribute runs --out explained --model FOLDER|ID
      trajkit report    explained --out report

    Each command explains itself: [bold]trajkit collect --help[/bold]
    """


@cleaned_streams()
def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit. An error is one line on stderr and a non-zero exit code.

    Codes: 1 an error that the message explains, 2 wrong usage, 3 a policy stopped the run, 70 a bug in trajkit; 130,
    143 and 129 stopped with Ctrl-C, SIGTERM and SIGHUP, after what was finished has been saved. A second signal stops
    at once.
    """
    arguments = sys.argv[1:] if argv is None else argv
    warnings.showwarning = _show_warning
    with _stopped_by_signals() as received:
        try:
            code = _run(arguments)
            sys.stdout.flush()
        except (KeyboardInterrupt, Interrupted) as stop:
            code = _fail(str(stop) or "stopped.", EXIT_INTERRUPTED)
        except BrokenPipeError:
            code = EXIT_ERROR
        except Exception as error:
            if "--debug" in arguments:
                traceback.print_exc()  # here, where what it says is cleaned
            code = _explain(error)
        if received:  # whatever else went wrong on the way out, such as a terminal that is gone
            code = 128 + received[0]
        _leave(code)


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[list[int]]:
    """Within, a signal of STOPS raises KeyboardInterrupt, once, and its number is in the list; the next one ends the
    process, but for those that come with the first (a terminal and a wrapper may both send one). One that is ignored,
    as nohup does, stays so."""
    received: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if received and now - first[0] < _TOGETHER:
            return
        if received:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        received.append(number)
        first.append(now)
        raise KeyboardInterrupt

    first: list[float] = []

    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: signal.getsignal(n) for n in STOPS if signal.getsignal(n) is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, stop)
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _run(arguments: list[str]) -> int:
    try:
        code = app(arguments, prog_name="trajkit", standalone_mode=False) or 0
    except UsageError as error:
        message = error.format_message()  # none where the help was shown instead
        if not message:
            return int(error.exit_code)
        stop = "" if message.endswith((".", "?")) else "."
        where = error.ctx.command_path if error.ctx else "trajkit"
        return _fail(f"{message}{stop} See {where} --help.", error.exit_code)
    except SystemExit as done:  # a closed pipe
        return EXIT_ERROR if done.code else 0
    if code == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    return int(code)


def _explain(error: Exception) -> int:
    if isinstance(error, TrajkitError):
        return _fail(str(error), EXIT_ERROR)
    if isinstance(error, OSError):
        where = f" ({error.filename})" if error.filename else ""
        return _fail(
            f"{error.strerror or error}{where}. Check the path, its permissions and the free space.", EXIT_ERROR
        )
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
        return _fail("not enough memory. Use a smaller model, smaller images or fewer samples at once.", EXIT_ERROR)
    what = f"{type(error).__name__}: {error}"
    return _fail(
        f"this is a bug in trajkit: {what}. Run `trajkit --debug …` for the traceback and report it.", EXIT_INTERNAL
    )


def _fail(message: str, code: int) -> int:
    with contextlib.suppress(OSError):  # when nobody is listening, the exit code still tells
        print(f"trajkit: {one_line(message)}", file=sys.stderr, flush=True)
    return code


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, UserWarning):
        print(f"trajkit: warning: {one_line(str(message))}", file=sys.stderr)


def _leave(code: int) -> None:
    """Exit; what could not be written to stdout (a closed pipe, a full disk) is dropped without a second message."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


if __name__ == "__main__":
    main()
