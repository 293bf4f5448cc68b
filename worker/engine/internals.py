"""The three pinned libraries whose private names the engine relies on, checked before anything runs.

A silent upgrade must not turn into lost records: with another version, or a name gone, the worker refuses
to start and says which version it expects.
"""

from __future__ import annotations

import logging
from importlib import import_module
from importlib.metadata import version
from typing import Any, Final

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

from worker.errors import SettingsError

FAUST_LOGGER: Final = logging.getLogger("faust.engine")
"""For our subclasses of Faust's services: they tell of their own starts and stops as Faust's do."""

EXPECTED_VERSIONS: Final = {"faust-streaming": "0.15.3", "mode-streaming": "0.7.1", "aiokafka": "0.14.0"}

RELIED_UPON: Final = (
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._create_worker_consumer",
    "faust.transport.drivers.aiokafka:AIOKafkaConsumerThread._fetch_records",
    "faust.transport.consumer:Consumer._drain_messages",
    "faust.transport.consumer:Consumer._commit_offsets",
    "faust.transport.consumer:Consumer._new_offset",
    "faust.transport.consumer:Consumer._get_active_partitions",
    "faust.transport.consumer:Consumer.perform_seek",
    "faust.tables.recovery:Recovery._restart_recovery",
    "faust.tables.recovery:Recovery._slurp_changelogs",
    "faust.tables.recovery:Recovery._set_recovery_started",
    "faust.tables.recovery:Recovery._set_recovery_ended",
    "faust.tables.recovery:Recovery._wait",
    "faust.tables.manager:TableManager.recovery",
    "faust.tables.manager:TableManager._update_channels",
    "faust.app.base:App._on_partitions_assigned",
    "aiokafka.producer.producer:AIOKafkaProducer.create_batch",
    "aiokafka.producer.producer:AIOKafkaProducer.send_batch",
    "aiokafka.producer.transaction_manager:TransactionManager.error_transaction",
    "aiokafka.producer.transaction_manager:TransactionManager.partitions_to_add",
    "aiokafka.consumer.fetcher:Fetcher.fetched_records",
    "aiokafka.consumer.fetcher:Fetcher._fetch_requests_routine",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._send_req",
    "aiokafka.consumer.group_coordinator:GroupCoordinator.check_errors",
    "aiokafka.consumer.group_coordinator:GroupCoordinator._start_heartbeat_task",
    "aiokafka.conn:AIOKafkaConnection.send",
)


def check_internals() -> None:
    """Raises SettingsError when a pinned library has another version or lacks a name relied upon."""
    remedy = "install exactly what requirements.txt lists: pip install --require-hashes -r requirements.txt"
    for distribution, expected in EXPECTED_VERSIONS.items():
        installed = version(distribution)
        if installed != expected:
            raise SettingsError(f"{distribution} {installed} is installed, the engine needs {expected}", remedy)
    for path in RELIED_UPON:
        module, _, names = path.partition(":")
        owner: object = import_module(module)
        for name in names.split("."):
            if not hasattr(owner, name):
                raise SettingsError(f"{path} does not exist in the installed version", remedy)
            owner = getattr(owner, name)


def survive_cut_connections() -> None:
    """Makes aiokafka take a connection that was cut a moment ago for what it is: broken, so ask again.

    It expects an OSError from writing to one. uvloop raises a RuntimeError ("the handler is closed") until its reader
    has noticed too, and the producer that meets it is lost for good.
    """
    if AIOKafkaConnection.send is not _send:
        AIOKafkaConnection.send = _send


_aiokafkas_send: Final = AIOKafkaConnection.send


def _send(connection: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:
    try:
        return _aiokafkas_send(connection, request, expect_response)
    except RuntimeError as error:
        connection.close(reason=CloseReason.CONNECTION_BROKEN, exc=error)
        text = f"Connection at {connection.host}:{connection.port} broken: {error}"
        raise KafkaConnectionError(text) from error
