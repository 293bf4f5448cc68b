"""The one way out when a transaction or an invariant fails: at once.

No graceful path is taken, because any of Faust's could still acknowledge what did not happen. The open
transaction is aborted by the next start's InitProducerId; nothing uncommitted was applied to the store.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Literal, NoReturn

import structlog
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidProducerEpoch,
    KafkaConnectionError,
    NodeNotReadyError,
    ProducerFenced,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from worker.errors import AccessDenied, BrokerUnreachable, EngineFailure, Fenced, WorkerError

logger = structlog.get_logger(__name__)


def as_worker_error(error: BaseException, doing: str, *, on_topics: Literal["READ", "WRITE"] = "READ") -> WorkerError:
    """Names a failure, keeping it as the cause: `doing` says what failed, with topic, partition and offsets, and
    `on_topics` what it did with them, for a refusal: the broker names the topic only."""
    if isinstance(error, WorkerError):
        return error
    failure = _denied(error, doing, on_topics) or _named(error, doing)
    failure.__cause__ = error
    return failure


def _named(error: BaseException, doing: str) -> WorkerError:
    if isinstance(error, ProducerFenced | InvalidProducerEpoch):
        return Fenced(
            f"{doing}: another worker has taken over this partition",
            "nothing; the supervisor's restart joins the group anew. If it repeats, look for two workers with one "
            "WORKER_INSTANCE_ID, or pauses longer than WORKER_SESSION_TIMEOUT_SECONDS",
        )
    if isinstance(error, KafkaConnectionError | NodeNotReadyError):
        return BrokerUnreachable(
            f"{doing}: no broker answers: {error}",
            "look at the brokers and the network; restart the worker, as often as it takes: nothing was acknowledged, "
            "it continues where the last transaction ended",
        )
    return EngineFailure(
        f"{doing}: {type(error).__name__}: {error}",
        "restart the worker: nothing was acknowledged, it continues where the last transaction ended. If it repeats, "
        "the text above names the cause",
    )


def _denied(error: BaseException, doing: str, on_topics: str) -> AccessDenied | None:
    """The missing right, when that is what the error or one of its causes tells."""
    cause: BaseException | None = error
    while cause is not None:
        match cause:
            case TopicAuthorizationFailedError():
                right = f"{on_topics} on topic"
            case GroupAuthorizationFailedError():
                right = "READ on group"
            case TransactionalIdAuthorizationFailed():
                right = "WRITE on transactional id"
            case _:
                cause = cause.__cause__
                continue
        # aiokafka gives a name, or a set of names.
        names = [str(name) for one in cause.args for name in (sorted(one) if isinstance(one, set) else [one])]
        return AccessDenied(
            f"{doing}: the broker refuses {right} {', '.join(names)}".rstrip(),
            "have the broker's administrator add an ACL for it; `python -m worker check` names every right that is "
            "missing. Nothing was acknowledged: the next start continues where the last transaction ended",
        )
    return None


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
