"""A table: numbers with their machine names, and beside them how people are told of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trajkit.tables.estimate import Estimate, Part
from trajkit.tables.words import NONE, estimate, metric, part
from trajkit.text import clean

if TYPE_CHECKING:
    import pandas as pd

Format = Callable[[Any], str]
_PRINTED = 40
"""Rows that `repr` shows."""


class Shown(NamedTuple):
    """What people read of a table, as text, cleaned of what a terminal would obey. numeric: of each column, whether it
    holds numbers, which are set flush right."""

    headings: list[str]
    rows: list[list[str]]
    numeric: list[bool]


@dataclass(frozen=True)
class Across:
    """One row a place in the frame, laid out for people with places side by side.

    column: whose values go across, in the order that they come. value: the column that their cells hold. heading: a
    place in words. last: a row's name, and what it says of the rows of one place, under their column (how many runs).
    counts: two columns, of how many a cell is and of how many it could be; where it is of fewer, it says of how many.

    See also: `Table`.

    >>> import pandas as pd
    >>> from trajkit.tables import Across, Table
    >>> frame = pd.DataFrame({"method": ["ours"] * 2, "step": [2, 4], "auc": [0.61, 0.7]})
    >>> table = Table(frame, headings={"method": "method"}, across=Across("step", "auc", heading="step {}".format))
    >>> table.shown.headings
    ['method', 'step 2', 'step 4']
    """

    column: str
    value: str
    heading: Callable[[Any], str] = str
    last: tuple[str, Callable[[pd.DataFrame], str]] | None = None
    counts: tuple[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """frame: cells are numbers, text, truths, None, `Estimate` or `Part`; columns have machine names. headings: column
    → what people read; the columns that are shown, in this order, where it is not empty. formats: column → how its
    numbers are written; by their kind where none is given. note: a sentence below it. across: where places stand side
    by side; a row of the page is then each different combination of the columns in `headings`, and a file keeps one row
    a place. names: column → what people call its texts, which a file has as they are.

    See also: `Across`, `Estimate`, `Comparison`.

    >>> import pandas as pd
    >>> from trajkit.tables import Estimate, Table
    >>> frame = pd.DataFrame({"method": ["ours"], "auc": [Estimate(0.7, 0.65, 0.76)]})
    >>> table = Table(frame, headings={"method": "method", "auc": "AUC"})
    >>> table.shown.rows
    [['ours', '0.70 (0.65–0.76)']]
    """

    frame: pd.DataFrame
    headings: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)
    note: str = ""
    across: Across | None = None
    names: Mapping[str, Callable[[str], str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        from trajkit.tables.render import text

        return text(self, most=_PRINTED)

    def _repr_html_(self) -> str:
        from trajkit.notebook.tables import table_html

        return table_html(self)

    @property
    def shown(self) -> Shown:
        """Headings, the cells of each row, and which columns are numbers."""
        headings = [clean(self.headings.get(name, name.replace("_", " "))) for name in self._names]
        columns = {name: self._written(name) for name in self._names}
        numeric = [self._numeric(name) for name in self._names]
        if self.across is None:
            return Shown(headings, [list(row) for row in zip(*columns.values(), strict=True)], numeric)
        places = list(dict.fromkeys(self.frame[self.across.column]))
        at = [places.index(place) for place in self.frame[self.across.column]]
        rows: dict[tuple[str, ...], list[str]] = {}
        cells = self._counted(self._written(self.across.value), self.across.counts)
        for name, place, cell in zip(zip(*columns.values(), strict=True), at, cells, strict=True):
            rows.setdefault(name, [NONE] * len(places))[place] = cell
        body = [[*name, *row] for name, row in rows.items()]
        if self.across.last is not None:
            label, said = self.across.last
            each = [said(self.frame[np.array(at) == place]) for place in range(len(places))]
            body.append([label, *[""] * (len(headings) - 1), *map(clean, each)])
        headings += [clean(self.across.heading(place)) for place in places]
        return Shown(headings, body, numeric + [self._numeric(self.across.value)] * len(places))

    @property
    def _names(self) -> list[str]:
        """The columns that are shown as they are."""
        names = [name for name in self.headings or self.frame.columns if name in self.frame]
        if self.across is None:
            return names
        laid = {self.across.column, self.across.value, *(self.across.counts or ())}
        return [name for name in names if name not in laid]

    def _counted(self, cells: list[str], counts: tuple[str, str] | None) -> list[str]:
        if counts is None:
            return cells
        both = self.frame[list(counts)].itertuples(index=False)
        return [
            f"{cell} of {n:,}" if cell != NONE and n < of else cell for cell, (n, of) in zip(cells, both, strict=True)
        ]

    def _written(self, name: str) -> list[str]:
        called = self.names.get(name, str)
        values = (called(value) if isinstance(value, str) else value for value in self.frame[name])
        return [written(value, self.formats.get(name)) for value in values]

    def _numeric(self, name: str) -> bool:
        values = self.frame[name]
        return values.dtype.kind in "fiu" or any(isinstance(value, Estimate | Part) for value in values)

    def plain(self) -> pd.DataFrame:
        """All columns under their machine names with all digits; an estimate is three, `x`, `x_low` and `x_high`, a
        part is two, `x` and `x_of`."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for name in self.frame:
            values = self.frame[name]
            kind = next((kind for kind in _ENDINGS if any(isinstance(value, kind) for value in values)), None)
            if kind is None:
                columns[str(name)] = values.to_numpy()
                continue
            for i, ending in enumerate(_ENDINGS[kind]):
                columns[f"{name}{ending}"] = [value[i] if isinstance(value, kind) else np.nan for value in values]
        return pd.DataFrame(columns)


_ENDINGS: dict[type[Estimate | Part], tuple[str, ...]] = {Estimate: ("", "_low", "_high"), Part: ("", "_of")}
"""What the columns of a file are called, after the name of the column that they are made of."""


def written(value: Any, form: Format | None = None) -> str:
    """A cell: by `form`, or by what kind of value it is."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas', which is not imported for this
        return NONE
    if isinstance(value, float | np.floating) and math.isnan(value):  # also where a row has no such estimate
        return NONE
    if form is not None and isinstance(value, float | int | Estimate | np.number):
        return form(value)
    if isinstance(value, Estimate):
        return estimate(value)
    if isinstance(value, Part):
        return part(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return metric(float(value))
    return clean(str(value))
