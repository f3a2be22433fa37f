"""`python -m trajkit` is `trajkit`."""

from trajkit.cli.main import main

main()
