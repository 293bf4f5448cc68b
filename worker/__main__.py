"""`python -m worker`: the same as the console script `session-worker`."""

from worker.cli import main

if __name__ == "__main__":
    main()
