"""Statistics that respect groups: comparing outcomes, and AUC with intervals. SciPy and statsmodels load when used."""

from trajkit.stats.auc import AUC, auc
from trajkit.stats.compare import compare

__all__ = ["AUC", "auc", "compare"]
