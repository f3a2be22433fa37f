"""One file per figure or table: run as `python -m analyses.NAME`; each writes reports/NAME.md."""
