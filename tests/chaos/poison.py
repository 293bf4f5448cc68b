"""Input that can never be processed, whatever happens beside it."""

from __future__ import annotations

from tests.broker.poison import as_events, poison_kinds
from tests.chaos.crashes import SMALL_TRANSACTIONS, WAITING
from tests.chaos.scenario import Run, scenario
from tests.logs import ordered, read_topic


@scenario("poison-of-every-kind")
def poison(run: Run) -> None:
    """Broken updates of every kind arrive while the worker is killed with -9: each is a dead letter, once."""
    run.pipeline.create_topics()
    kinds = poison_kinds()
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker = run.pipeline.worker(**SMALL_TRANSACTIONS)
        for _ in range(run.scaled(2, 20)):
            run.rng.shuffle(kinds)
            run.pipeline.send(event for kind in kinds for event in as_events(kind))
            run.wait_progress(run.rng.randint(20, 200))
            worker.kill9()
            run.injected("kill -9")
            with run.resuming():
                worker.start()
    run.pipeline.wait_drained()
    letters = {letter.value for letter in ordered(read_topic(run.pipeline.bootstrap, run.pipeline.names.dead_letters))}
    refused = [kind.name for kind in kinds if kind.value in letters]
    assert len(refused) == len(kinds), f"no dead letter: {sorted({kind.name for kind in kinds} - set(refused))}"
    run.injected("kind of broken update", len(refused))
