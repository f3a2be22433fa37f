"""Studies as files: Markdown with pictures beside it, one HTML page, or CSV."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from trajkit.files import write_text
from trajkit.folders import check_own, replacing_folder
from trajkit.studies.make import STUDIES
from trajkit.studies.study import Study
from trajkit.tables import Table, render
from trajkit.text import clean, code, escaped, for_spreadsheet, markdown, number

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["md", "html", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
MARK = ".trajkit-studies"
"""A file in every folder of studies, so that no other folder is written to."""
_OURS = re.compile(
    rf"({'|'.join(STUDIES)})(_\d+)?\.(md|svg|csv)|README\.(md|txt)|how_to_read\.md|index\.html|(runs|steps)\.csv"
)
"""Names of files that are written here."""
HOW_TO_READ = Path(__file__).parent / "how_to_read.md"


def write_studies(
    studies: Sequence[Study], out: Path, form: Format, made_by: str, summary: str, left_out: Mapping[str, str],
    data: Mapping[str, Any],
) -> Path:  # fmt: skip
    """Write studies to the folder `out`; returns the file to open first.

    made_by: the command. summary: of the runs. left_out: title of a study that could not be made → why. data: name →
    DataFrame, written as CSV only. All files appear at once, or none does; those of another command or other runs that
    the folder holds from before go. Raises InputError where `out` is no folder for it (`check_folder`) or cannot be
    written.
    """
    check_folder(out)
    with replacing_folder(out) as new:
        ours = f"{made_by}\n{summary}\n"
        if (new / MARK).is_file() and (new / MARK).read_text(encoding="utf-8") != ours:
            for stale in filter(_OURS.fullmatch, os.listdir(new)):
                (new / stale).unlink()
        write_text(new / MARK, ours)
        first = _fill(new, studies, form, made_by, summary, left_out, data)
    return out / first.relative_to(new)


def _fill(
    out: Path, studies: Sequence[Study], form: Format, made_by: str, summary: str, left_out: Mapping[str, str],
    data: Mapping[str, Any],
) -> Path:  # fmt: skip
    """Write studies to a folder; returns what to open first."""
    if form == "md":
        for study in studies:
            write_markdown(study, out / f"{study.name}.md", made_by)
        write_text(out / "how_to_read.md", HOW_TO_READ.read_text(encoding="utf-8"))
        write_text(out / "README.md", _index(studies, made_by, summary, left_out))
        return out / "README.md"
    if form == "html":
        write_text(out / "index.html", _page(studies, made_by, summary, left_out))
        return out / "index.html"
    for name, frame in data.items():
        write_text(out / f"{name}.csv", for_spreadsheet(frame))
    titles = []
    for study in studies:
        for i, (title, table) in enumerate(study.tables.items(), 1):
            titles.append(f"{study.name}_{i}.csv: {title}\n")
            write_text(
                out / f"{study.name}_{i}.csv",
                render.csv(table) if isinstance(table, Table) else for_spreadsheet(_in_numbers(table)),
            )
    write_text(out / "README.txt", f"{summary}\nWritten by: {made_by}\n\n{''.join(titles)}")
    return out


def write_markdown(study: Study, path: Path, made_by: str) -> Path:
    """Write one study as Markdown, its pictures as SVG beside it."""
    text = f"# {study.title}\n\n{study.asked}\n\n"
    text += f"Regenerate: {code(made_by)}. Intervals are of 95 % and resample groups.\n\n"
    for i, (said, picture) in enumerate(study.pictures.items()):
        name = f"{path.stem}{'' if i == 0 else f'_{i + 1}'}.svg"
        write_text(path.with_name(name), picture)
        text += f"![{escaped(clean(said))}]({name})\n\n{escaped(clean(said))}.\n\n"
    text += "## Reading\n\n" + "".join(f"{escaped(clean(paragraph))}\n\n" for paragraph in study.reading)
    text += "".join(f"## {escaped(clean(title))}\n\n{_markdown(table)}\n" for title, table in study.tables.items())
    write_text(path, text)
    return path


def _markdown(table: pd.DataFrame | Table) -> str:
    return render.markdown(table) if isinstance(table, Table) else markdown(table)


def _index(studies: Sequence[Study], made_by: str, summary: str, left_out: Mapping[str, str]) -> str:
    text = f"# What these traces show\n\n{escaped(clean(summary))}\n\nWritten by {code(made_by)}. First of all: "
    text += "[how to read this](how_to_read.md).\n\n"
    text += "".join(f"- [{s.title}]({s.name}.md): {s.asked[0].lower()}{s.asked[1:]}\n" for s in studies)
    return text + "".join(
        f"- {escaped(clean(title))}: not made. {escaped(clean(why))}\n" for title, why in left_out.items()
    )


def _page(studies: Sequence[Study], made_by: str, summary: str, left_out: Mapping[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    shown = [
        {
            "name": study.name, "title": study.title, "asked": study.asked, "reading": study.reading,
            "pictures": [(said, Markup(picture)) for said, picture in study.pictures.items()],
            "tables": [
                (title, table.shown.headings, table.shown.rows) if isinstance(table, Table)
                else (title, list(table.columns), [[number(v) for v in row] for row in table.itertuples(index=False)])
                for title, table in study.tables.items()
            ],
        }
        for study in studies
    ]  # fmt: skip
    sections = [
        (heading.strip(), [paragraph.replace("\n", " ").replace("`", "") for paragraph in body.strip().split("\n\n")])
        for heading, _, body in (
            part.partition("\n") for part in re.split(r"^## ", HOW_TO_READ.read_text(encoding="utf-8"), flags=re.M)[1:]
        )
    ]
    return environment.get_template("page.html").render(
        studies=shown, made_by=made_by, summary=summary, left_out=left_out, sections=sections
    )


def check_folder(out: Path) -> None:
    """Raise InputError unless `out` is new, empty, or was written by `write_studies`."""
    check_own(out, MARK)


def _in_numbers(table: pd.DataFrame) -> pd.DataFrame:
    """Columns of `value (low–high)` as three columns of numbers; a dash is nothing."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table:
        cells = table[name].astype(str)
        found = cells.str.extract(_SPREAD)
        if not found[0].notna().any():
            columns[str(name)] = table[name].where(cells != "–")
            continue
        for part, ending in enumerate(("", " low", " high")):
            columns[f"{name}{ending}"] = pd.to_numeric(found[part], errors="coerce")
        rest = cells.where(found[0].isna() & (cells != "–"))
        if rest.notna().any():
            columns[f"{name} note"] = rest
    return pd.DataFrame(columns)


_SPREAD = re.compile(r"^([+-]?[\d.]+)(?: \(([+-]?[\d.]+)(?:–| to )([+-]?[\d.]+)\))?(?:, n = \d+)?$")
