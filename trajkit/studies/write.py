"""Studies as files: Markdown with pictures beside it, one HTML page, or CSV."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from trajkit.files import write_text
from trajkit.folders import check_own, replacing_folder
from trajkit.studies.make import STUDIES
from trajkit.studies.study import Study
from trajkit.tables.render import csv, markdown
from trajkit.tables.words import sentence
from trajkit.text import clean, code, escaped, for_spreadsheet

if TYPE_CHECKING:
    import pandas as pd

    from trajkit.tables import Table

Format = Literal["md", "html", "csv"]
FORMATS: tuple[Format, ...] = get_args(Format)
MARK = ".trajkit-studies"
"""A file in every folder of studies, so that no other folder is written to."""
_OURS = re.compile(
    rf"({'|'.join(STUDIES)})(_\d+)?\.(md|svg|csv)|README\.(md|txt)|how_to_read\.md|index\.html|(runs|steps)\.csv"
)
"""Names of files that are written here."""
HOW_TO_READ = Path(__file__).parent / "how_to_read.md"


@dataclass
class StudyFolder:
    """A folder of studies, which are added to it as they are made.

    made_by: the command. summary: of the runs. data: name → DataFrame, written as CSV only, once. studies, left_out
    (title of a study that could not be made → why): what was added. All files of one addition appear at once, or none
    does; those of another command or other runs that the folder holds from before go.
    """

    out: Path
    form: Format
    made_by: str
    summary: str
    data: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    studies: list[Study] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def add(self, studies: Sequence[Study], left_out: Mapping[str, str]) -> None:
        """Write more studies, and what lists all; nothing while there is none. Raises InputError where `out` is
        neither new nor empty nor of studies, or cannot be written."""
        first = not self.studies
        self.studies += studies
        self.left_out |= left_out
        if not self.studies:
            return
        check_own(self.out, MARK)
        with replacing_folder(self.out) as new:
            self._claim(new)
            for name, frame in self.data.items() if first and self.form == "csv" else ():
                write_text(new / f"{name}.csv", for_spreadsheet(frame))
            for study in studies:
                if self.form == "md":
                    write_markdown(study, new / f"{study.name}.md", self.made_by)
                elif self.form == "csv":
                    for name, table in _files(study).items():
                        write_text(new / name, csv(table))
            self._list(new)

    @property
    def first(self) -> Path:
        """What to open first."""
        return self.out / {"md": "README.md", "html": "index.html", "csv": ""}[self.form]

    def _claim(self, new: Path) -> None:
        """Mark the folder as of this command and these runs, and take away what was written for others."""
        ours = f"{self.made_by}\n{self.summary}\n"
        if (new / MARK).is_file() and (new / MARK).read_text(encoding="utf-8") != ours:
            for stale in filter(_OURS.fullmatch, os.listdir(new)):
                (new / stale).unlink()
        write_text(new / MARK, ours)

    def _list(self, new: Path) -> None:
        """Write what is about all studies: the index, or the one page."""
        about = (self.studies, self.made_by, self.summary, self.left_out)
        if self.form == "md":
            write_text(new / "how_to_read.md", HOW_TO_READ.read_text(encoding="utf-8"))
            write_text(new / "README.md", _index(*about))
        elif self.form == "html":
            write_text(new / "index.html", _page(*about))
        else:
            titles = [f"{name}: {table}\n" for study in self.studies for name, table in _titles(study).items()]
            write_text(new / "README.txt", f"{self.summary}\nWritten by: {self.made_by}\n\n{''.join(titles)}")


def _files(study: Study) -> dict[str, Table]:
    """Names of its CSV files → tables."""
    return {f"{study.name}_{i}.csv": table for i, table in enumerate(study.tables.values(), 1)}


def _titles(study: Study) -> dict[str, str]:
    """Names of its CSV files → titles."""
    return dict(zip(_files(study), study.tables, strict=True))


def write_markdown(study: Study, path: Path, made_by: str) -> Path:
    """Write one study as Markdown, its pictures as SVG beside it."""
    text = f"# {study.title}\n\n{study.asked}\n\n"
    text += f"Regenerate: {code(made_by)}. Intervals are of 95 % and resample groups.\n\n"
    for i, (said, picture) in enumerate(study.pictures.items()):
        name = f"{path.stem}{'' if i == 0 else f'_{i + 1}'}.svg"
        write_text(path.with_name(name), picture)
        text += f"![{escaped(clean(said))}]({name})\n\n{escaped(clean(said))}.\n\n"
    text += "## Reading\n\n" + "".join(f"{escaped(clean(paragraph))}\n\n" for paragraph in study.reading)
    text += "".join(f"## {escaped(clean(title))}\n\n{markdown(table)}\n" for title, table in study.tables.items())
    write_text(path, text)
    return path


def _index(studies: Sequence[Study], made_by: str, summary: str, left_out: Mapping[str, str]) -> str:
    text = f"# What these traces show\n\n{escaped(clean(summary))}\n\nWritten by {code(made_by)}. First of all: "
    text += "[how to read this](how_to_read.md).\n\n"
    text += "".join(f"- [{s.title}]({s.name}.md): {s.asked[0].lower()}{s.asked[1:]}\n" for s in studies)
    return text + "".join(
        f"- {escaped(clean(title))}: not made. {escaped(clean(sentence(why)))}\n" for title, why in left_out.items()
    )


def _page(studies: Sequence[Study], made_by: str, summary: str, left_out: Mapping[str, str]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "name": study.name,
            "title": study.title,
            "asked": study.asked,
            "reading": study.reading,
            "pictures": [(said, Markup(picture)) for said, picture in study.pictures.items()],
            "tables": [(title, clean(table.note), table.shown) for title, table in study.tables.items()],
        }
        for study in studies
    ]
    sections = [
        (heading.strip(), [paragraph.replace("\n", " ").replace("`", "") for paragraph in body.strip().split("\n\n")])
        for heading, _, body in (
            part.partition("\n") for part in re.split(r"^## ", HOW_TO_READ.read_text(encoding="utf-8"), flags=re.M)[1:]
        )
    ]
    why_not = {title: sentence(why) for title, why in left_out.items()}
    return environment.get_template("page.html").render(
        studies=shown, made_by=made_by, summary=summary, left_out=why_not, sections=sections
    )
