"""Many runs as columns: one kernel over batches of saved runs, and the table that everything which compares runs reads."""
