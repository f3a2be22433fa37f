"""`trajkit view`: the page over saved runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from trajkit.cli.access import AllowHostOption, HostOption, PortOption, TokenOption, access
from trajkit.cli.options import TracesArgument

if TYPE_CHECKING:
    from trajkit.live.saved import SavedRuns


def view(
    traces: TracesArgument,
    detectors: Annotated[
        str | None,
        typer.Option(
            "--detectors",
            metavar="FOLDER|none",
            show_default="what was saved with the runs, or the demo's for its model",
            help="Folder that `fit` wrote: its risks and alarms; `none` for those that were saved alone.",
        ),
    ] = None,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8322,
    token: TokenOption = None,
    allow_host: AllowHostOption = None,
    browse: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = False,
) -> None:
    """Look at saved runs in a browser: find them, see what each step rests on, compare two, label what went wrong.

    It is there at once, however many runs there are; risks and alarms follow. Labels are kept beside the runs, and
    `fit`, `analyze`, `monitor` and `report` take them in place of outcomes. Ctrl-C ends it.

    [bold]Examples[/bold]

      trajkit view traces

      trajkit view traces --detectors detectors --open
    """
    from trajkit.cli.output import note
    from trajkit.cli.reading import said_of_labels
    from trajkit.errors import InputError
    from trajkit.tables.words import count
    from trajkit.traces.store import files_of

    try:
        from trajkit.live.listening import address_of, listen, serve_page
        from trajkit.live.view import page_app
    except ImportError as error:
        raise InputError(f"the page needs {error.name}: pip install 'trajkit[live]'.") from error

    known = access(host, token, allow_host)
    files_of(traces)
    listening = listen(host, port)
    link = known.link(address_of(listening))
    from trajkit.live.saved import SavedRuns

    runs = SavedRuns(traces)
    _ask(runs, detectors)
    if runs.given:
        note(said_of_labels(runs.labelled, runs.given))

    def began() -> None:
        note(f"{count(len(runs.rows()), 'run')} at {link} (Ctrl-C ends it)")
        if browse:
            import webbrowser

            webbrowser.open(link)

    try:
        serve_page(page_app([runs], known), listening, began)
    finally:
        runs.close()


def _ask(runs: SavedRuns, folder: str | None) -> None:
    """Have the detectors of --detectors asked about the runs; by default the demo's, about runs of its model that were
    saved without verdicts. Raises InputError where there are none, EstimatorMismatchError where no run is of their
    model."""
    from trajkit.cli.loading import NO_DETECTORS, is_demo
    from trajkit.demo import paths
    from trajkit.detection.store import load_detectors

    if folder == NO_DETECTORS:
        return
    if folder is not None:
        found = load_detectors(folder)
        runs.check(found)
        runs.ask(lambda: found)
    elif not runs.watched and paths.DETECTORS.is_dir() and any(map(is_demo, runs.models)):
        runs.ask(lambda: load_detectors(paths.DETECTORS))
