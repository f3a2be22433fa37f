"""Scripts that build what is in data/. Run one as `python -m pipelines.NAME`."""
