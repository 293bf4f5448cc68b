"""Puts the worker together and runs it until it is told to stop."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from typing import Final

import structlog
import uvloop

from worker import __version__, child_process, logs
from worker.agents.profiles import ProfilesConfig, ProfilesHandler
from worker.agents.sessions import SessionsConfig, SessionsHandler
from worker.engine.app import BatchApp, create_app
from worker.engine.batch import BatchHandler
from worker.engine.config import EngineConfig, StageConfig
from worker.engine.engine import Engine
from worker.engine.failure import as_worker_error, exit_process
from worker.engine.internals import check_internals
from worker.engine.open_files import require_open_files
from worker.engine.state_dir import StateDirectory
from worker.engine.watchdog import Watchdog
from worker.errors import EXIT_OK
from worker.kafka import connection
from worker.kafka.cluster_watch import ClusterWatch
from worker.kafka.connection import BrokerFacts
from worker.operate import health, preconditions
from worker.operate.progress import Progress
from worker.session.model import Limits
from worker.settings import Settings

logger = structlog.get_logger(__name__)

# SIGTERM must end the worker within 10 s even while the broker is away. Nothing is lost by leaving without
# the broker's answer: an unfinished transaction is aborted at the next start.
_STOP_SECONDS: Final = 8.0


def run_worker(settings: Settings) -> int:
    """Runs one worker process until SIGTERM or SIGINT; returns its exit code.

    Raises WorkerError when it cannot start: wrong topics, no suitable broker, a state directory of another
    app. Failures while running end the process with the error's exit code.
    """
    logs.configure(settings)
    check_internals()
    require_open_files(settings.partitions)
    code = uvloop.run(_run(settings))
    _leave_threads_behind(code)
    return code


def _leave_threads_behind(code: int) -> None:
    """Ends the process when a stop that came in the middle of the start left a thread of Faust's running, which
    the interpreter would wait for without end. Everything of ours is closed by now."""
    others = set(threading.enumerate()) - {threading.current_thread()}
    if any(not thread.daemon for thread in others):
        sys.stderr.flush()
        os._exit(code)


# A batch makes thousands of short-lived tuples and no cycles. With Python's default (700) the collector runs
# for every few dozen events and takes a tenth of the time; so rarely, it still bounds what a cycle could hold.
_GC_THRESHOLDS: Final = (100_000, 20, 20)


async def _run(settings: Settings) -> int:
    stop = _stop_on_signals()
    broker = await preconditions.require(settings, stop)
    progress = Progress()
    if broker is not None:
        await _work(settings, broker, progress, stop)
    logger.info("worker_stopped", processed=progress.records)
    child_process.hear_no_more_stops()
    return EXIT_OK


async def _work(settings: Settings, broker: BrokerFacts, progress: Progress, stop: asyncio.Event) -> None:
    for warning in broker.warnings:
        logger.warning("broker_warning", text=warning)
    directory = StateDirectory.open(
        settings.state_dir,
        app_id=settings.app_id,
        cluster_id=broker.cluster_id or "",
        instance_id=settings.instance_id,
    )
    try:
        config = engine_config(settings, directory)
        engine = Engine(config, handlers(settings), progress.record)
        app = create_app(engine, partitions=settings.partitions)
        logger.info(
            "worker_starting",
            version=__version__,
            app_id=settings.app_id,
            instance_id=directory.instance_id,
            brokers=settings.bootstrap_servers,
            kafka=broker.release,
            store=settings.store,
            state_dir=str(directory.path),
        )
        gc.freeze()
        gc.set_threshold(*_GC_THRESHOLDS)
        watch = ClusterWatch(settings, exit_process)
        watchdog = Watchdog(engine, settings.watchdog_seconds, lambda: watch.away_seconds)
        watchdog.start()
        async with watch.watching(), progress.reporting(), health.reporting(engine, directory.path):
            await _serve(app, stop)
        watchdog.stop()
    finally:
        directory.close()


def _stop_on_signals() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _serve(app: BatchApp, stop: asyncio.Event) -> None:
    """Runs the app until `stop`. Raises EngineFailure when a part of Faust crashes."""
    starting = asyncio.create_task(app.start(), name="faust-start")
    stopping = asyncio.create_task(stop.wait(), name="stop-signal")
    crashing = asyncio.create_task(app.wait_for_stopped(asyncio.Event().wait()), name="faust-crash")
    await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not stopping.done():
        await starting  # raises what prevented the start
        await asyncio.wait({stopping, crashing}, return_when=asyncio.FIRST_COMPLETED)
    crash = app.crash_reason
    for task in (starting, stopping, crashing):
        task.cancel()
    await _stop(app)
    if crash is not None:
        raise as_worker_error(crash, "a part of the worker crashed")


async def _stop(app: BatchApp) -> None:
    """Ends running transactions, then Faust. Leaves hard after the deadline: what is committed stays committed,
    and threads of the Kafka clients that wait for a broker would hold up the interpreter's exit."""
    # What Faust's thread meets from here on is the stop: topics it no longer subscribes to, an event loop that is gone.
    threading.excepthook = lambda _: None
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await app.engine.stop()
            await app.stop()
            app.engine.close()
    except TimeoutError:
        logger.warning("stopped_without_broker", waited_seconds=_STOP_SECONDS)
        sys.stderr.flush()
        os._exit(EXIT_OK)


def engine_config(settings: Settings, directory: StateDirectory) -> EngineConfig:
    """What the engine needs of the settings."""
    return EngineConfig(
        app_id=settings.app_id,
        instance_id=directory.instance_id,
        client=connection.client_settings(settings),
        stages=(
            StageConfig(
                name="sessions",
                source_topic=settings.topic_updates,
                feedback_topic=settings.topic_answers,
                output_topics=(
                    settings.topic_enriched,
                    settings.topic_dead_letters,
                    settings.topic_ledger,
                    settings.topic_claims,
                ),
            ),
            StageConfig(name="profiles", source_topic=settings.topic_claims, output_topics=(settings.topic_answers,)),
        ),
        store=settings.store,
        state_dir=directory.path,
        batch_max_records=settings.batch_max_records,
        session_timeout_seconds=settings.session_timeout_seconds,
        compression=None if settings.compression == "none" else settings.compression,
        transaction_pause_seconds=settings.transaction_pause_ms / 1000,
        transaction_timeout_seconds=settings.transaction_timeout_seconds,
        accepted_topic_ids=frozenset(settings.accepted_topic_ids.split(",")),
    )


def handlers(settings: Settings) -> dict[str, BatchHandler]:
    """What is done in each stage, by its name."""
    return {
        "sessions": SessionsHandler(sessions_config(settings)),
        "profiles": ProfilesHandler(ProfilesConfig(settings.topic_answers)),
    }


def sessions_config(settings: Settings) -> SessionsConfig:
    """What the rules and the wire need of the settings."""
    return SessionsConfig(
        enriched_topic=settings.topic_enriched,
        dead_letters_topic=settings.topic_dead_letters,
        ledger_topic=settings.topic_ledger,
        claims_topic=settings.topic_claims,
        partitions=settings.partitions,
        limits=Limits(
            allow_negative_prices=settings.allow_negative_prices,
            cart_items=settings.max_cart_items,
            cart_quantity=settings.max_cart_quantity,
            identifiers=settings.max_identifiers,
            coupon_code_length=settings.max_coupon_code_length,
            referral_code_length=settings.max_referral_code_length,
            integration_id_length=settings.max_integration_id_length,
            event_id_length=settings.max_event_id_length,
            duplicate_window=settings.duplicate_window,
        ),
        output_case=settings.output_case,
        max_record_bytes=settings.max_record_bytes,
        worker_version=__version__,
    )
