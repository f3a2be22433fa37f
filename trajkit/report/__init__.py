"""The report: one self-contained HTML page about many runs."""

from trajkit.report.build import write_report

__all__ = ["write_report"]
