"""The only broker is away: it hangs, is stopped, or cannot be reached; while idle and under load."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.broker.processes import WorkerProcess
from tests.chaos.restarts import Restarts
from tests.chaos.scenario import Run, scenario
from worker.kafka.embedded import EmbeddedKafka

JSON: Final[Any] = {"log_format": "json"}
SESSION_SECONDS: Final = 6
"""Of the pipeline's workers."""


@scenario("broker-away-while-idle", broker="proxied")
def away_while_idle(run: Run) -> None:
    """The broker is away while there is nothing to do: the worker stays, says so, and goes on when it is back."""
    run.pipeline.create_topics()
    # Longer away than the watchdog allows work to take: an idle worker owes none.
    worker = run.pipeline.prepared(**JSON, watchdog_seconds=10)
    worker.start()
    with run.traffic(per_second=500, most=500) as traffic:
        run.pipeline.wait_until(lambda: traffic.sent >= 500, "all is sent")
    run.pipeline.wait_drained()
    for way, seconds in (("hangs", 15),) if not run.long else (("stopped", 20), ("hangs", 130)):
        _away(run, run.kafka, way, seconds)
        worker.require_running()
        with run.resuming(), run.traffic(per_second=500, most=500) as traffic:
            run.pipeline.wait_until(lambda: traffic.sent >= 500, "all is sent")
        run.pipeline.wait_until(lambda: bool(worker.logged("broker_back")), "broker_back is logged")
        run.pipeline.wait_drained()
        # A member that the broker forgot meanwhile joins again: until then it is not idle.
        time.sleep(run.scaled(0, SESSION_SECONDS))
    assert worker.logged("broker_away"), worker.tail()


@scenario("broker-away-under-load", broker="proxied")
def away_under_load(run: Run) -> None:
    """The broker is away in the middle of work, in the long form for longer than a transaction may take."""
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(**JSON)
    with run.traffic(per_second=500):
        worker.start()
        run.wait_progress(500)
        ways = (("hangs", 8),) if not run.long else (("hangs", 50), ("stopped", 130))
        with Restarts(worker, {3, 70, 71}) as restarts:
            for way, seconds in ways:
                _away(run, run.kafka, way, seconds)
                with run.resuming():
                    pass
                run.pipeline.wait_until(lambda: bool(worker.logged("broker_away", ever=True)), "broker_away is logged")
    for code, times in restarts.ended.items():
        run.injected(f"worker ended with {code}", times)


@scenario("sigterm-while-the-broker-is-away", broker="proxied")
def sigterm_while_away(run: Run) -> None:
    """SIGTERM while the broker is away, idle or in the middle of work: exit code 0, and the next start goes on."""
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(**JSON)
    with run.traffic(per_second=1_000):
        for round_ in range(run.scaled(1, 6)):
            worker.start()
            # A broker that has just come back may not take connections yet.
            with Restarts(worker, {3}):
                run.wait_progress(500)
            if round_ % 2 == 0:
                run.kafka.pause()
            else:
                run.kafka.stop()
            time.sleep(run.rng.uniform(0, run.scaled(1, 15)))
            with run.stopping():
                worker.sigterm()
                assert worker.wait_exit() == 0, worker.tail()
            run.injected("SIGTERM without a broker")
            run.kafka.resume()
            run.kafka.start()
        with run.resuming():
            worker.start()
            with Restarts(worker, {3}):
                run.wait_progress(1)


@scenario("supervised-through-an-outage", broker="proxied", has_short_form=False)
def supervised(run: Run) -> None:
    """The broker cannot be reached for so long that workers with work end: their supervisor waits for it."""
    run.pipeline.create_topics()
    lonely = run.pipeline.prepared("lonely", **JSON)
    run.proxy.refuse()
    lonely.start()
    lonely.expected_up = False
    assert lonely.wait_exit() == 3, lonely.tail()
    run.injected("start without a broker")
    run.proxy.heal()

    parent = run.pipeline.prepared("parent", **JSON, watchdog_seconds=5, batch_max_records=100)
    parent.flags = ("--processes", "2")
    parent.may_fail = True
    with run.traffic(per_second=1_000):
        parent.start()
        run.wait_progress(1_000)
        run.proxy.refuse()
        crashes = run.scaled(2, 6)
        run.pipeline.wait_until(lambda: _ended_for_the_outage(parent) >= crashes, "workers end, and wait")
        with run.resuming():
            run.proxy.heal()
    run.injected("worker waited for by its supervisor", _ended_for_the_outage(parent))


def _ended_for_the_outage(parent: WorkerProcess) -> int:
    return sum("exit code 3" in line["how"] for line in parent.logged("child_crashed"))


def _away(run: Run, kafka: EmbeddedKafka, way: str, seconds: float) -> None:
    """The broker is away for so long, and back when this returns."""
    assert seconds > SESSION_SECONDS
    if way == "hangs":
        kafka.pause()
    else:
        kafka.stop()
    time.sleep(seconds)
    kafka.resume()
    kafka.start()
    run.injected(f"broker {way} for {seconds:.0f} s")
