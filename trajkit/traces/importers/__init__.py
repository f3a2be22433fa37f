"""From the logs of other tools to Traces: a file per format, each of which says what its log tells as SourceRuns."""
