"""Statistics that respect groups: comparing outcomes, holding length and task fixed, and AUC with intervals.

SciPy and statsmodels load when used.
"""

from trajkit.stats.auc import AUC, auc
from trajkit.stats.compare import compare
from trajkit.stats.regression import regress

__all__ = ["AUC", "auc", "compare", "regress"]
