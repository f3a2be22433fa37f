"""`trajkit demo`, on what is shipped."""

from __future__ import annotations

from trajkit.demo import paths
from trajkit.demo.runs import demo_items


def test_demo_shows_runs_with_their_truth_then_the_monitor_and_writes_the_report(cli, tmp_path):
    result = cli("demo", "--runs", "2", "--seed", "5", "--out", tmp_path / "out")
    assert result.code == 0, result.err
    for item in demo_items("test", 2, 5):  # the first two scenes of the seed, none left out
        assert f"question: {item.question}" in result.out
        assert f"truth: {item.target}  →  " in result.out
    assert "none is picked by how its run ends" in " ".join(result.out.split())
    assert "scenes of digits that nothing has seen" in " ".join(result.out.split())
    assert "False alarms on successful runs" in result.out
    assert "risk 0." in result.out
    assert result.out.rstrip().endswith(str(tmp_path / "out" / "index.html"))
    assert (tmp_path / "out" / "index.html").is_file()


def test_the_same_seed_gives_the_same_runs():
    import io

    from rich.console import Console

    from trajkit.cli.demo import show_runs

    def lines() -> list[str]:
        console = Console(file=io.StringIO(), width=200)
        show_runs(console, 2, 7)
        text = console.file.getvalue()  # type: ignore[attr-defined]
        return [line for line in text.splitlines() if "tokens in" not in line]

    assert lines() == lines()


def test_demo_without_its_data_says_what_to_restore(cli, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "MODEL", tmp_path / "model")
    cli("demo").assert_one_line_error("the demo's model is not in", "data/demo")


def test_readme_picture_needs_no_external_font_and_draws_pictures_as_rectangles(tmp_path):
    from analyses.readme_picture import main

    main(["--out", str(tmp_path / "picture.svg"), "--width", "80"])
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "@font-face" not in text
    assert "url(http" not in text
    assert "▀" not in text
    assert "crispEdges" in text
    assert "thinking" not in text  # the spinner
