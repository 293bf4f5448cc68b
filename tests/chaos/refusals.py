"""What a broker refuses: records too large, too few replicas, topics that are gone, transactions that took too long."""

from __future__ import annotations

import re
import time
from typing import Any, Final

from tests.broker.administration import add_partitions, configure, delete_topic, write_back
from tests.broker.pipeline import Pipeline
from tests.broker.processes import WorkerProcess
from tests.chaos.crashes import WAITING
from tests.chaos.restarts import Restarts
from tests.chaos.scenario import Run, scenario
from tests.chaos.workers import refused_start
from tests.logs import open_records, ordered, read_topic
from worker.load.generator import generate

JSON: Final[Any] = {"log_format": "json"}


@scenario("topic-refuses-records")
def topic_refuses(run: Run) -> None:
    """An output topic takes no record of this size any more: the worker ends, naming topic and setting."""
    run.pipeline.create_topics()
    names = run.pipeline.names
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker.start()
        for topic in (
            (names.ledger,) if not run.long else (names.enriched, names.dead_letters, names.ledger, names.changelog)
        ):
            run.wait_progress(300)
            configure(run.pipeline, topic, {"max.message.bytes": "100"})
            worker.expected_up = False
            assert worker.wait_exit() == 2, worker.tail()
            (told,) = worker.logged("worker_failed")
            assert topic in told["problem"], told
            assert "max.message.bytes" in told["problem"], told
            run.injected(f"{topic.removeprefix(run.pipeline.app_id)} refused records")
            configure(run.pipeline, topic, {"max.message.bytes": "1048588"})
            with run.resuming():
                worker.start()


@scenario("not-enough-replicas", broker="cluster", has_short_form=False)
def not_enough_replicas(run: Run) -> None:
    """A topic has fewer replicas in sync than it demands, within transactions: nothing is lost while they wait."""
    run.pipeline.create_topics()
    names = run.pipeline.names
    # With one replica none could be missing: Kafka never demands more than there are.
    configure(run.pipeline, names.enriched, {"min.insync.replicas": "3"})
    worker = run.pipeline.prepared(**JSON, transaction_timeout_seconds=10, watchdog_seconds=20)
    with run.traffic(per_second=1_000, waiting=WAITING):
        worker.start()
        run.wait_progress(300)
        run.kafka.kill(run.rng.choice(run.kafka.nodes))

        def is_said() -> bool:
            # Either its records are refused, or the marker that ends the transaction before.
            told = [line["waiting_for"] for line in worker.logged("transaction_waits")]
            return any(names.enriched in each or "too few replicas in sync" in each for each in told)

        run.pipeline.wait_until(is_said, "a transaction waits for replicas, and says so")
        run.injected("transaction waited for replicas")
        # Refused records end the worker when the broker aborts their transaction, an unended one when nothing is
        # done for WATCHDOG_SECONDS; at a start it waits for the former owner's transaction (70: for too long).
        with Restarts(worker, {70, 72}) as restarts:
            if run.long:
                run.pipeline.wait_until(lambda: restarts.ended.total() >= 2, "the worker ends twice")
                assert worker.logged("worker_failed", ever=True)
            with run.resuming():
                configure(run.pipeline, names.enriched, {"min.insync.replicas": "2"})
    for code, times in restarts.ended.items():
        run.injected(f"worker ended with {code}", times)


@scenario("dead-letter-topic-deleted")
def dead_letters_deleted(run: Run) -> None:
    """The dead-letter topic is deleted under a running worker: it ends, and goes on when there is one again."""
    run.pipeline.create_topics()
    names = run.pipeline.names
    worker = run.pipeline.worker(**JSON)
    worker.may_fail = True
    run.pipeline.wait_until(lambda: bool(worker.logged("ready")), "the worker is ready")
    worker.expected_up = False
    delete_topic(run.pipeline, names.dead_letters)
    with run.traffic(per_second=1_000, waiting=WAITING):
        assert worker.wait_exit() == 2, worker.tail()
        assert names.dead_letters in worker.logged("worker_failed")[0]["problem"]
        run.injected("topic deleted")
        worker.start()
        worker.expected_up = False
        assert worker.wait_exit() == 2, "it starts without the topic"
        run.pipeline.create_topics(only=names.dead_letters)
        with run.resuming():
            worker.start()
        run.wait_progress(1_000)


@scenario("input-deleted-and-created-again")
def input_recreated(run: Run) -> None:
    """The input is deleted and created again under a running worker: it ends, and never begins there by itself."""
    names = run.pipeline.names
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    with run.traffic(per_second=2_000, most=2_000):
        worker.start()
        run.wait_progress(500)
    run.pipeline.wait_drained()
    # Its store may be behind the changelog: the worker still runs.
    run.pipeline.verdict().require_clean()
    written = run.pipeline.written(isolation="read_uncommitted")
    worker.expected_up = False
    delete_topic(run.pipeline, names.updates)
    if run.rng.random() < 0.5:
        # 70: the group's leader saw it first.
        assert worker.wait_exit() in (2, 70), worker.tail()
        run.pipeline.create_topics(only=names.updates)
    else:
        # Too quick for everybody to see that it was gone in between.
        run.pipeline.create_topics(only=names.updates)
        assert worker.wait_exit() in (2, 5, 70), worker.tail()
    run.injected("input deleted")
    worker.start()
    worker.expected_up = False
    assert worker.wait_exit() == 5, worker.tail()
    assert worker.logged("worker_failed")[0]["error"] == "InputLost"
    run.injected("start on another input refused")
    assert run.pipeline.written(isolation="read_uncommitted") == written, "something was written all the same"
    _start_anew(run)


@scenario("input-recreated-while-no-worker-runs")
def input_recreated_meanwhile(run: Run) -> None:
    """The input is deleted and created again while no worker runs, and holds as many records: no start takes it for
    the former one. Restored with the same records, it is accepted by its id."""
    names = run.pipeline.names
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(**JSON)
    run.pipeline.send(generate(sessions=run.scaled(1_000, 10_000), seed=run.seed))
    worker.start()
    run.pipeline.wait_drained()
    worker.stop()
    backup = ordered(read_topic(run.pipeline.bootstrap, names.updates))

    _recreate_input(run)
    run.pipeline.send(generate(sessions=2 * run.scaled(1_000, 10_000), seed=run.seed + 1))
    _require_unknown_input(worker)
    run.injected("another input refused")

    _recreate_input(run)
    write_back(run.pipeline, names.updates, backup)
    unknown = _require_unknown_input(worker)
    run.injected("restored input refused")
    worker.environment["WORKER_ACCEPTED_TOPIC_IDS"] = unknown
    with run.traffic(per_second=1_000), run.resuming():
        worker.start()
        run.wait_progress(1_000)
    run.pipeline.wait_drained()
    worker.stop()
    del worker.environment["WORKER_ACCEPTED_TOPIC_IDS"]
    worker.start()  # the state knows it now


def _recreate_input(run: Run) -> None:
    names = run.pipeline.names
    delete_topic(run.pipeline, names.updates)
    run.pipeline.create_topics(only=names.updates)


def _require_unknown_input(worker: WorkerProcess) -> str:
    """A start is refused; returns the id that would be accepted."""
    told = refused_start(worker, 5)
    assert told["error"] == "InputLost", told
    assert "deleted and created again" in told["problem"], told
    (unknown,) = re.findall("add ([0-9a-f]{32}) to WORKER_ACCEPTED_TOPIC_IDS", told["what_to_do"])
    assert isinstance(unknown, str)
    return unknown


@scenario("partitions-added")
def partitions_added(run: Run) -> None:
    """The input gets more partitions under a running worker: it ends, for keys would begin anew in the new ones."""
    names = run.pipeline.names
    run.pipeline.create_topics()
    worker = run.pipeline.prepared(**JSON)
    worker.may_fail = True
    with run.traffic(per_second=2_000, most=2_000):
        worker.start()
        run.wait_progress(500)
    run.pipeline.wait_drained()
    worker.expected_up = False
    add_partitions(run.pipeline, names.updates, 6)
    assert worker.wait_exit() == 2, worker.tail()
    told = worker.logged("worker_failed")[0]["problem"]
    assert names.updates in told, told
    assert "6 partitions" in told, told
    worker.start()
    worker.expected_up = False
    assert worker.wait_exit() == 2, "it starts with partitions that nobody reads"
    run.injected("partitions added")
    # Its store is behind the changelog: what was not flushed went with the process.
    run.pipeline.verdict().require_clean()
    _start_anew(run)


@scenario("frozen-in-a-transaction", broker="proxied")
def frozen(run: Run) -> None:
    """A worker freezes in a transaction until the broker aborts it: woken, it ends, and the next start goes on."""
    run.pipeline.create_topics()
    # A partition's transaction also lasts while the handlers of the others have the event loop: small ones.
    worker = run.pipeline.prepared(**JSON, transaction_timeout_seconds=5, batch_max_records=50)
    worker.may_fail = True
    with run.traffic(per_second=1_000, waiting=WAITING):
        for step in ("5",) if not run.long else ("3", "4", "4b", "5", "5b", "6") * 2:
            worker.environment["WORKER_TEST_FAILPOINT"] = f"{step}:{run.rng.randint(5, 20)}:stop"
            worker.start()
            run.pipeline.wait_until(lambda: worker.standing, f"it stands at step {step}")
            worker.expected_up = False
            if step in ("4b", "5", "5b"):
                assert _open_records(run), "it froze outside of a transaction"
            # The broker looks once a second for what to abort.
            run.pipeline.wait_until(lambda: not _open_records(run), "the broker aborts it")
            time.sleep(6)  # a transaction without records: nothing shows its end
            run.injected("frozen in a transaction")
            worker.sigcont()
            if step in ("4b", "5", "5b"):
                assert worker.wait_exit() == 70, worker.tail()
                assert "aborted it" in worker.logged("worker_failed")[0]["problem"]
            else:
                worker.kill9()
        for name in ("WORKER_TEST_FAILPOINT", "WORKER_TRANSACTION_TIMEOUT_SECONDS"):
            del worker.environment[name]
        with run.resuming():
            worker.start()


def _open_records(run: Run) -> int:
    return open_records(run.pipeline.bootstrap, run.pipeline.names[1:])


def _start_anew(run: Run) -> None:
    """What the message says to do: another app id and new topics."""
    old = run.pipeline
    run.pipeline = Pipeline(old.bootstrap, f"{old.app_id}-2", old.directory / "2")
    old.destroy()
    run.pipeline.create_topics()
    (old.directory / "2").mkdir()
    run.pipeline.worker("anew", **JSON)
    with run.traffic(per_second=1_000, most=1_000):
        run.wait_progress(500)
