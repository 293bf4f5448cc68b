"""Workers told to stop: under load, at any moment of their start, and several times at once."""

from __future__ import annotations

import signal
import time
from contextlib import suppress

from tests.chaos.crashes import SMALL_TRANSACTIONS, WAITING
from tests.chaos.scenario import Run, scenario

START_MILLISECONDS = (0, 150, 300, 500, 700, 900, 1_200, 1_600)
"""After the worker's code began: imports take most of the first second, then it joins, fences and restores."""


@scenario("sigterm-under-load")
def under_load(run: Run) -> None:
    """The worker is stopped with SIGTERM in mid-work and started again: exit code 0, and no work done twice."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_500, waiting=WAITING):
        worker = run.pipeline.worker(**SMALL_TRANSACTIONS)
        for _ in range(run.scaled(3, 20)):
            run.wait_progress(run.rng.randint(100, 1_000))
            with run.stopping():
                worker.stop()
            assert "stopped_without_broker" not in worker.said(), "it left by its deadline, though a broker was there"
            assert run.pipeline.committed() != run.ends(), "the signal did not come in mid-work"
            run.injected("SIGTERM")
            with run.resuming():
                worker.start()
        worker.stop()
        # An aborted transaction is work done twice; read_uncommitted would show its records.
        aborted = run.count_aborted()
        assert aborted == 0, f"{aborted} records of aborted transactions"
        worker.start()


@scenario("sigterm-while-starting")
def while_starting(run: Run) -> None:
    """SIGTERM comes at any moment of the start, and again and again until the worker has ended: exit code 0."""
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(store="memory", **SMALL_TRANSACTIONS)
    with run.traffic(per_second=500, waiting=WAITING):
        worker.start()
        run.wait_progress(500)
        worker.stop()
        moments = run.scaled(4, 40)
        for milliseconds in run.rng.sample(START_MILLISECONDS * 5, moments):
            worker.start()
            run.pipeline.wait_until(lambda: worker.handles(signal.SIGTERM), "it runs the worker's own code")
            time.sleep(milliseconds / 1000)  # the moment is what is tested, nothing waits for it
            signals = 0
            with run.stopping():
                while worker.running and signals < 50:
                    with suppress(AssertionError):  # it has just ended
                        worker.sigterm()
                    signals += 1
                    time.sleep(0.03)
                code = worker.wait_exit()
            assert code == 0, f"exit code {code}, {milliseconds} ms after the start\n{worker.tail()}"
            run.injected("SIGTERM while starting", signals)
        with run.resuming():
            worker.start()
