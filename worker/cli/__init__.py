"""The command line: `python -m worker …`, also installed as `session-worker`."""

from worker.cli.main import app, main

__all__ = ["app", "main"]
