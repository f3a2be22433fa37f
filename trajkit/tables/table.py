"""A table: numbers with their machine names, and beside them how people are told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from trajkit.tables.estimate import Estimate
from trajkit.tables.words import NONE, estimate, metric
from trajkit.text import clean

if TYPE_CHECKING:
    import pandas as pd

Format = Callable[[Any], str]


@dataclass(frozen=True, eq=False)
class Table:
    """frame: cells are numbers, text, truths, None or `Estimate`; columns have machine names. headings: column → what
    people read; the columns that are shown, in this order, where it is not empty. formats: column → how its cells are
    written; by their kind where none is given. note: a sentence below it."""

    frame: pd.DataFrame
    headings: Mapping[str, str] = field(default_factory=dict)
    formats: Mapping[str, Format] = field(default_factory=dict)
    note: str = ""

    def shown(self) -> tuple[list[str], list[list[str]]]:
        """Headings, and the cells of each row as text, cleaned of what a terminal would obey."""
        names = self.columns
        columns = [[written(value, self.formats.get(name)) for value in self.frame[name]] for name in names]
        rows = [list(row) for row in zip(*columns, strict=True)]
        return [clean(self.headings.get(name, name.replace("_", " "))) for name in names], rows

    @property
    def columns(self) -> list[str]:
        """The columns that are shown."""
        return [name for name in self.headings or self.frame.columns if name in self.frame]

    def numeric(self, name: str) -> bool:
        """Whether a column holds numbers, which are set flush right."""
        values = self.frame[name]
        return values.dtype.kind in "fiu" or any(isinstance(value, Estimate) for value in values)

    def plain(self) -> pd.DataFrame:
        """All columns under their machine names with all digits; an estimate is three, `x`, `x_low` and `x_high`."""
        import pandas as pd

        columns: dict[str, Any] = {}
        for name in self.frame:
            values = self.frame[name]
            if any(isinstance(value, Estimate) for value in values):
                for part, ending in enumerate(("", "_low", "_high")):
                    columns[f"{name}{ending}"] = [
                        value[part] if isinstance(value, Estimate) else np.nan for value in values
                    ]
            else:
                columns[str(name)] = values.to_numpy()
        return pd.DataFrame(columns)


def written(value: Any, form: Format | None = None) -> str:
    """A cell: by `form`, or by what kind of value it is."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # pandas', which is not imported for this
        return NONE
    if form is not None and isinstance(value, float | int | Estimate | np.number):
        return form(value)
    if isinstance(value, Estimate):
        return estimate(value)
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        return metric(float(value))
    return clean(str(value))
