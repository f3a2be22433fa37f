"""`python -m trajkit` is `trajkit`."""

from trajkit.cli.main import main

if __name__ == "__main__":
    main()
