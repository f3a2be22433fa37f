"""Many runs as columns: one kernel over batches of saved runs, and the table that all who compare runs read."""
