"""Traces: the record of one run, stored by the thousand in Parquet."""
