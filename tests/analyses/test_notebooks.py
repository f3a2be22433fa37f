"""The notebooks run from the first cell to the last, on real data, and show what they say they show."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from analyses import notebooks
from analyses.percent import Output, displayed, read_cells, run_cells

ANALYSES = Path(notebooks.__file__).parent


@pytest.fixture(scope="module", params=notebooks.NOTEBOOKS)
def notebook(request):
    return notebooks.shown(request.param)


def printed(notebook) -> str:
    return "".join(output.printed for _, output in notebook.cells)


def test_it_runs_explains_itself_and_displays_things_of_trajkit(notebook):
    kinds = [cell.kind for cell, _ in notebook.cells]
    assert kinds[0] == "markdown"
    assert kinds.count("markdown") >= 6
    assert len(notebook.sizes) >= 2
    assert max(notebook.sizes) < 200_000
    for cell, output in notebook.cells:
        assert cell.kind == "markdown" or output.printed or output.html, f"the cell at line {cell.line} shows nothing"


def test_what_it_says_in_words_is_what_it_found(notebook):
    said = printed(notebook)
    if notebook.name == "quick_start":
        assert re.search(r"entropy_mean +δ = \+.*: told apart", said)
        assert re.search(r"path_length +δ = -.*: told apart", said)
        assert re.search(r"tortuosity +δ = \+.*: told apart", said)
        assert re.search(r"^The first alarm is in run \d+\.$", said, re.M)
    if notebook.name == "own_model":
        assert "the same tokens as without the watch: True" in said
        assert "does not fit glm4v" in said
        assert float(re.search(r"In (\d+) % \(", said).group(1)) > 50
    if notebook.name == "own_traces":
        assert "28 runs with effects" in said
        assert said.count("AUC of failure") == 2
    if notebook.name == "study":
        assert "The path is shown to add to length and uncertainty at no step." in said
        assert re.search(r"An addition of more than 0\.\d\d is excluded", said)


def test_the_page_of_a_notebook_has_every_cell_and_output(notebook, chromium):
    page = chromium.new_page()
    page.set_content(notebooks.page(notebook.cells))
    assert page.locator(".code").count() == sum(cell.kind == "code" for cell, _ in notebook.cells)
    assert page.locator(".trajkit").count() >= len(notebook.sizes)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()


def test_the_report_counts_them():
    one = notebooks.Shown("study", list(run_cells_of("# %%\n1 + 1\n")), 2.4)
    text = notebooks.report([one])
    assert "| notebook_study | 1 | 0 |" in text
    assert "notebook-study-dark.webp" in text


def run_cells_of(text: str, folder: Path | None = None):
    import tempfile

    with tempfile.TemporaryDirectory(dir=folder) as at:
        script = Path(at) / "notebook.py"
        script.write_text(text)
        yield from run_cells(script)


SCRIPT = """# a comment before the first cell
# %% [markdown]
# # A title
#
# and text
# %%
x = 20
print("printed")
# %%
x + 1
# %%
x + 2;
# %%
y = x
"""


def test_cells_share_names_and_the_last_value_is_shown_unless_it_ends_in_a_semicolon(tmp_path):
    cells = list(run_cells_of(SCRIPT, tmp_path))
    assert [cell.kind for cell, _ in cells] == ["markdown", "code", "code", "code", "code"]
    assert cells[0][0].text == "# A title\n\nand text"
    assert [output for _, output in cells] == [
        Output(), Output("printed\n"), Output("", 21, "<pre>21</pre>"), Output(), Output()
    ]  # fmt: skip


def test_an_error_names_the_line_of_the_script(tmp_path):
    with pytest.raises(ZeroDivisionError) as error:
        list(run_cells_of("# %%\nx = 1\n\n# %%\n\ny = 2\n1 / 0\n", tmp_path))
    assert error.traceback[-1].lineno + 1 == 7


def test_values_are_shown_as_notebooks_do():
    from PIL import Image

    assert displayed(Image.new("RGB", (4, 4))).startswith('<img class="picture" src="data:image/png')
    assert displayed("<b>") == "<pre>&#x27;&lt;b&gt;&#x27;</pre>"


@pytest.mark.parametrize("name", notebooks.NOTEBOOKS)
def test_a_notebook_is_a_script_that_jupyter_opens(name):
    path = ANALYSES / f"notebook_{name}.py"
    assert path.read_text().startswith("# %% [markdown]\n# # ")
    assert len(read_cells(path)) > 10
    assert str(ANALYSES.parent) not in path.read_text()
