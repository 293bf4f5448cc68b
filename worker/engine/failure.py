"""The one way out when a transaction or an invariant fails: at once.

No graceful path is taken, because any of Faust's could still acknowledge what did not happen. The open
transaction is aborted by the next start's InitProducerId; nothing uncommitted was applied to the store.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

import structlog
from aiokafka.errors import InvalidProducerEpoch, ProducerFenced

from worker.errors import EngineFailure, Fenced, WorkerError

logger = structlog.get_logger(__name__)


def as_worker_error(error: BaseException, doing: str) -> WorkerError:
    """Names a failure, keeping it as the cause: `doing` says what failed, with topic, partition and offsets."""
    if isinstance(error, WorkerError):
        return error
    failure = _named(error, doing)
    failure.__cause__ = error
    return failure


def _named(error: BaseException, doing: str) -> WorkerError:
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return Fenced(
            f"{doing}: another worker has taken over this partition",
            "nothing; the supervisor's restart joins the group anew. If it repeats, look for two workers with one "
            "WORKER_INSTANCE_ID, or pauses longer than WORKER_SESSION_TIMEOUT_SECONDS",
        )
    return EngineFailure(
        f"{doing}: {type(error).__name__}: {error}",
        "restart the worker: nothing was acknowledged, it continues where the last transaction ended. If it repeats, "
        "the text above names the cause",
    )


def exit_process(error: WorkerError) -> NoReturn:
    """Logs the error and ends the process with its documented exit code, skipping every clean-up."""
    logger.critical(
        "worker_failed",
        error=type(error).__name__,
        problem=error.problem,
        what_to_do=error.remedy,
        exit_code=error.exit_code,
        exc_info=error.__cause__,
    )
    logging.shutdown()  # flushes
    sys.stderr.flush()
    os._exit(error.exit_code)
