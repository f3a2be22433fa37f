"""Numbers with their intervals, tables of them, and the edge where they become text: nothing is read back from it."""

from trajkit.tables.estimate import Estimate
from trajkit.tables.table import Table

__all__ = ["Estimate", "Table"]
