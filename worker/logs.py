"""Logs: one stream on stderr, as JSON or for people; the standard library's loggers join it.

Ours is `structlog.get_logger(__name__)`: an event name in snake_case and fields, never a sentence with
numbers in it. Libraries speak from WARNING on, because Faust's and aiokafka's INFO describes their own
insides; `LOG_LEVEL=debug` lets them speak from INFO. Never from DEBUG: there aiokafka prints each request,
and with it the password of SASL PLAIN.
"""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from typing import Final

import structlog

from worker.child_process import PROCESS_NAME_VARIABLE
from worker.settings import Settings

LIBRARIES: Final = ("aiokafka", "faust", "mode", "asyncio", "kafka")
REPEAT_SECONDS: Final = 10.0
HARMLESS_SECONDS: Final = 3.0
STREAK_PAUSE_SECONDS: Final = 1.0


class _HarmlessRetries(logging.Filter):
    """Drops the producer's warnings about what it retries by itself, for as long as that is usual.

    Such as NOT_ENOUGH_REPLICAS on a partition whose transaction marker is still being written, or a new leader to
    be elected. One and the same for longer than three seconds is what an operator must read: it is why a
    transaction waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self._streaks: dict[str, tuple[float, float]] = {}
        """When each complaint was heard first and last."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING or "retrying" not in str(record.msg):
            return True
        complaint = record.getMessage()
        first, last = self._streaks.get(complaint, (record.created, record.created))
        if record.created - last > STREAK_PAUSE_SECONDS:
            first = record.created
        self._streaks[complaint] = (first, record.created)
        return record.created - first > HARMLESS_SECONDS


class _Repeats(logging.Filter):
    """Lets one and the same complaint of a library through once in ten seconds, with the number left out.

    While a broker is away aiokafka says so hundreds of times a second, from each of its connections.
    """

    def __init__(self) -> None:
        super().__init__()
        self._let_through: dict[tuple[str, object], float] = {}
        self._left_out: Counter[tuple[str, object]] = Counter()

    def filter(self, record: logging.LogRecord) -> bool:
        if record.name.partition(".")[0] not in LIBRARIES:
            return True
        complaint = (record.name, record.msg)  # the template: the same for all partitions and nodes
        if record.created - self._let_through.get(complaint, -REPEAT_SECONDS) < REPEAT_SECONDS:
            self._left_out[complaint] += 1
            return False
        self._let_through[complaint] = record.created
        left_out = self._left_out.pop(complaint, 0)
        if left_out:
            record.similar_left_out = left_out
        return True


def configure(settings: Settings) -> None:
    """Route every logger of this process through structlog. May be called again; the last call counts."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_process_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_rendering(settings.log_format)],
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level)
    libraries_level = logging.INFO if settings.log_level == "DEBUG" else max(root.level, logging.WARNING)
    for name in LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.setLevel(libraries_level)
        library.propagate = True
    sender = logging.getLogger("aiokafka.producer.sender")
    sender.filters[:] = [_HarmlessRetries()]


def _add_process_name(
    _: structlog.typing.WrappedLogger, __: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Tells the lines of several workers apart that share a stderr. No context variable: threads log too."""
    name = os.environ.get(PROCESS_NAME_VARIABLE)
    return {"process": name, **event} if name else event


def _rendering(log_format: str) -> list[structlog.typing.Processor]:
    if log_format == "json":
        # default=str: a field of any type becomes text, because a log call must never raise.
        # No local variables in tracebacks, in either format: they hold customers' records.
        tracebacks = structlog.processors.ExceptionRenderer(
            structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
        )
        return [tracebacks, structlog.processors.JSONRenderer(default=str)]
    return [
        structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback)
    ]
