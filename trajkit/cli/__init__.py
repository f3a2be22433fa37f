"""The command line. `main.main` is the entry point; each command has its own file."""
