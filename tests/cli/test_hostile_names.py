"""Names and texts that hold escape codes reach no terminal, whichever command shows them."""

from __future__ import annotations

import ast
import io
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import trajkit
from trajkit.console import cleaned_streams, console
from trajkit.progress import progress
from trajkit.traces.exporters import FORMATS
from trajkit.traces.store import write_traces

NASTY = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31m\r\x08\x00\u202e\x1b]0;title\x1b\\[bold]"
IN_A_PATH = NASTY.replace("\x00", "")


def controls(text: str) -> list[str]:
    return re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


@pytest.fixture
def hostile(tmp_path, make_trace) -> Path:
    import numpy as np

    rng = np.random.default_rng(0)
    runs = [make_trace(g, r, bool(rng.random() < 0.4), rng, model=f"m{NASTY}") for g in range(40) for r in range(3)]
    runs = [
        replace(
            run,
            transcript_id=f"{run.transcript_id}{NASTY}",
            group_id=f"{run.group_id}{NASTY}",
            answer=NASTY,
            task_set=f"{run.task_set}{NASTY}",
            question=f"how{NASTY}?",
        )
        for run in runs
    ]
    return write_traces(runs, tmp_path / f"runs{IN_A_PATH.replace('/', '')}.parquet")


def test_commands_on_hostile_traces_print_text_and_line_ends_only(cli, hostile, tmp_path):
    detectors = tmp_path / f"detectors{IN_A_PATH}"
    for arguments in (
        ["fit", hostile, "--out", detectors],
        ["monitor", hostile, "--detectors", detectors],
        ["analyze", hostile],
        ["analyze", hostile, "--report", tmp_path / f"studies{IN_A_PATH}"],
        ["report", hostile, "--out", tmp_path / f"report{IN_A_PATH}"],
        *(["export", hostile, "--format", form, "--out", tmp_path / f"{form}{IN_A_PATH}"] for form in FORMATS),
        ["report", f"none{IN_A_PATH}", "--out", tmp_path],
        ["monitor", hostile, "--detectors", tmp_path / IN_A_PATH],
        [f"no-such{IN_A_PATH}"],
        ["stream", f"none{IN_A_PATH}.png", "what?"],
        ["doctor", f"--{IN_A_PATH}"],
    ):
        done = cli(*arguments)
        assert done.code != 70, done.err
        assert controls(done.out + done.err) == [], arguments


def test_an_image_and_a_question_with_hostile_names_print_text_only(cli, tmp_path, scene_image, model_and_estimator):
    folder = tmp_path / "questions"
    folder.mkdir()
    name = IN_A_PATH.replace("\r", "")
    scene_image.save(folder / f"{name}.png")
    (folder / f"bad{name}.png").write_bytes(b"no image")
    rows = [
        {"id": f"q{name}", "image": f"{name}.png", "question": "sort row 1 up.", "task_set": name},
        {"id": "r", "image": f"bad{name}.png", "question": "sort row 2 up.", "task_set": name},
        {"id": "s", "image": f"none{name}.png", "question": "sort row 3 up."},
    ]
    file = folder / f"questions{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli(
        "collect", file, "--out", tmp_path / f"out{name}", "--samples", 1, "--max-new-tokens", 8, *model_and_estimator
    )
    assert done.code != 70, done.err
    assert controls(done.out + done.err) == []


def test_all_that_is_printed_by_anything_is_cleaned(capsys):
    import logging

    @cleaned_streams()
    def job() -> None:
        print(NASTY)
        print(NASTY, file=sys.stderr)
        logging.getLogger("x").addHandler(logging.StreamHandler())
        logging.getLogger("x").error(NASTY)
        console(stderr=True).print(NASTY, markup=False)
        with progress("title", 1) as bar:
            bar.advance(NASTY)

    job()
    seen = capsys.readouterr()
    assert controls(seen.out.removeprefix("\r") + seen.err.removeprefix("\r")) == []


def test_a_console_keeps_its_own_colours_only():
    on = console(
        file=io.StringIO(), force_terminal=True, color_system="truecolor", width=300, highlight=False, markup=True
    )
    on.print(f"[red]{NASTY.replace('[bold]', '')}x[/red]")
    assert re.fullmatch("\x1b\\[31mx\x1b\\[0m\n", on.file.getvalue())  # type: ignore[attr-defined]


MARKUP = ("[/]", "[red]x[/red]", "[/red", "[link=https://evil.example]y[/link]", "[@click=app.bell]z[/]", "\\[bold]")


@pytest.mark.parametrize("name", MARKUP)
def test_what_rich_reads_as_markup_is_shown_as_it_is(name, monkeypatch):
    import pandas as pd
    from rich.text import Text

    from trajkit.cli.output import note
    from trajkit.tables import Table
    from trajkit.tables.render import show

    screen = console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=300, highlight=False)
    show(screen, Table(pd.DataFrame({name: [name]})), f"of {name}")
    screen.print(name)
    with screen.status(Text(name)):
        pass
    assert screen.file.getvalue().count(name) >= 4  # type: ignore[attr-defined]
    bar = console(file=io.StringIO(), force_terminal=True, color_system="truecolor", width=300)
    monkeypatch.setattr("trajkit.progress.console", lambda **_: bar)
    with progress(name, 1) as running:
        running.advance(name)
    assert name in bar.file.getvalue()  # type: ignore[attr-defined]
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    note(name)
    assert plain.getvalue() == f"{name}\n"


def test_files_and_runs_named_in_markup_are_collected_and_analysed(
    cli, tmp_path, scene_image, model_and_estimator, make_trace
):
    import numpy as np

    (tmp_path / "[").mkdir()
    (tmp_path / "[red]x[").mkdir()
    scene_image.save(tmp_path / "[" / "].png")
    scene_image.save(tmp_path / "[bold].png")
    scene_image.save(tmp_path / "[red]x[" / "red].png")
    names = ["[/].png", "[bold].png", "[red]x[/red].png", "none[/].png"]
    rows = [
        {"id": f"q[/]{i}", "image": name, "question": "sort row 1 up.", "task_set": "[/red]", "target": "no"}
        for i, name in enumerate(names)
    ]
    file = tmp_path / "questions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = cli("collect", file, "--out", tmp_path / "[out", "--samples", 1, "--max-new-tokens", 8, *model_and_estimator)
    assert done.code == 1, done.err
    assert "left out question q[/]3 (line 4, ].png)" in done.err
    rng = np.random.default_rng(0)
    runs = [make_trace(g, r, bool(rng.random() < 0.4), rng, model="[/m]") for g in range(40) for r in range(3)]
    runs = [replace(run, task_set=f"[/{run.task_set}]", group_id=f"[/]{run.group_id}") for run in runs]
    traces = write_traces(runs, tmp_path / "[dim].parquet")
    for arguments in (
        ["analyze", traces],
        ["fit", traces, "--out", tmp_path / "[/d"],
        ["monitor", traces, "--detectors", tmp_path / "[/d"],
        ["report", traces, "--out", tmp_path / "[/r"],
        ["export", traces, "--format", "hf", "--out", tmp_path / "[/x"],
    ):
        assert cli(*arguments).code == 0, arguments


def test_no_part_of_trajkit_makes_a_console_of_its_own():
    for path in Path(trajkit.__file__).parent.rglob("*.py"):
        calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        made = [node for node in calls if getattr(node.func, "id", getattr(node.func, "attr", "")) == "Console"]
        assert not made, f"{path}: use trajkit.console.console"
