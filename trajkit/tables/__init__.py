"""Numbers with their intervals, tables of them, and the edge where they become text: nothing is read back from it."""

from trajkit.tables.estimate import Estimate, Part, joined
from trajkit.tables.table import Across, Table

__all__ = ["Across", "Estimate", "Part", "Table", "joined"]
