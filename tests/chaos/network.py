"""A network that fails between the worker and its broker: cut, slow, half open."""

from __future__ import annotations

import time
from typing import Any, Final

from tests.chaos.crashes import WAITING
from tests.chaos.proxy import ADD_OFFSETS, ADD_PARTITIONS, COMMIT_OFFSETS, END_TRANSACTION, PRODUCE
from tests.chaos.restarts import Restarts
from tests.chaos.scenario import Run, scenario

REQUESTS: Final = {
    ADD_PARTITIONS: "adding partitions",
    PRODUCE: "producing",
    ADD_OFFSETS: "adding offsets",
    COMMIT_OFFSETS: "sending offsets",
    END_TRANSACTION: "committing",
}
"""What a transaction consists of, in its order."""
SMALL: Final[Any] = {"batch_max_records": 50, "log_format": "json"}


@scenario("connections-cut", broker="proxied")
def connections_cut(run: Run) -> None:
    """Every connection is reset (RST) again and again, under load; the worker never ends."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker = run.pipeline.worker(**SMALL)
        run.wait_progress(300)
        for _ in range(run.scaled(5, 60)):
            run.wait_progress(run.rng.randint(1, 400))
            run.injected("connection reset", run.proxy.cut())
            with run.resuming():
                pass
        worker.require_running()


@scenario("network-cut-in-a-transaction", broker="proxied")
def cut_in_a_transaction(run: Run) -> None:
    """The connection is cut at a request of a transaction, before the broker sees it or before its answer arrives."""
    run.pipeline.create_topics()
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker = run.pipeline.worker(**SMALL)
        run.wait_progress(300)
        for _ in range(run.scaled(1, 10)):
            for kind, doing in REQUESTS.items():
                for answered in (False, True):
                    run.proxy.cut_at(kind, answered=answered)
                    run.pipeline.wait_until(lambda: not run.proxy.is_armed(), f"a request of {doing} comes")
                    run.injected(f"{'answer' if answered else 'request'} lost")
                    run.wait_progress(run.rng.randint(1, 200))
        worker.require_running()


@scenario("slow-network", broker="proxied")
def slow_network(run: Run) -> None:
    """200 ms of latency in both directions, then 100 KB/s at most; the worker never ends."""
    run.pipeline.create_topics()
    # A start takes a dozen round trips and more: longer than the session timeout.
    run.proxy.delay(run.scaled(200, 450) / 1000)
    with run.traffic(per_second=run.scaled(100, 200)):
        worker = run.pipeline.worker()
        run.wait_progress(run.scaled(200, 5_000))
        run.injected("200 ms of latency")
        run.proxy.heal()
        run.proxy.throttle(100_000)
        run.wait_progress(run.scaled(200, 5_000))
        run.injected("100 KB/s")
        worker.require_running()
    run.proxy.heal()


@scenario("half-open-network", broker="proxied")
def half_open(run: Run) -> None:
    """Connections stay and nothing arrives, as behind a firewall that forgot them; healed, only new ones work."""
    run.pipeline.create_topics()
    # The short form waits less long for answers: a third of this.
    worker = run.pipeline.prepared(**SMALL, transaction_timeout_seconds=run.scaled(6, 30))
    with run.traffic(per_second=500, waiting=WAITING):
        worker.start()
        run.wait_progress(300)
        with Restarts(worker, {3, 70, 71}) as restarts:
            for seconds in (5,) if not run.long else (5, 15, 25, 45, 60):
                run.proxy.swallow()
                time.sleep(seconds)
                run.proxy.heal()
                run.injected("network half open")
                with run.resuming():
                    pass
                run.pipeline.wait_until(lambda: bool(worker.logged("broker_away", ever=True)), "broker_away is logged")
    for code, times in restarts.ended.items():
        run.injected(f"worker ended with {code}", times)
