"""The player on a real broker: everything arrives once, in order per key, at the pace asked for."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.logs import Record, read_topic
from worker.errors import BrokerUnreachable, TopicsError, WorkerError
from worker.kafka.embedded import EmbeddedKafka
from worker.load.event import StreamEvent
from worker.load.generator import generate
from worker.load.player import Pace, Sent, play
from worker.settings import Settings

PARTITIONS = 4


def topic(kafka: EmbeddedKafka, **configs: str) -> Settings:
    """Settings of a worker whose updates topic is new and empty."""
    name = f"player-{uuid4().hex[:8]}"
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    configs = {name.replace("_", "."): value for name, value in configs.items()}
    for created in admin.create_topics([NewTopic(name, PARTITIONS, 1, config=configs)]).values():
        created.result(20)
    return Settings(bootstrap_servers=kafka.bootstrap_servers, topic_updates=name)


def send(settings: Settings, events: Iterable[StreamEvent], pace: Pace | None = None) -> Sent:
    async def sending() -> Sent:
        return await play(settings, events, pace or Pace(), stop=asyncio.Event(), on_sent=lambda _: None)

    return asyncio.run(sending())


def received(settings: Settings) -> list[Record]:
    log = read_topic(settings.bootstrap_servers, settings.topic_updates)
    return [record for partition in sorted(log) for record in log[partition]]


def test_every_event_arrives_once_with_its_bytes_and_in_the_order_of_its_key(kafka: EmbeddedKafka) -> None:
    settings = topic(kafka)
    events = list(generate(400, seed=3))
    before_ms = time.time_ns() // 1_000_000
    sent = send(settings, events)

    assert sent.by_kind == Counter(event.kind for event in events)
    assert sent.events == len(events)
    expected, arrived = defaultdict(list), defaultdict(list)
    for event in events:
        expected[event.key].append((event.value, event.headers))
    for record in received(settings):
        arrived[record.key].append((record.value, record.headers))
        assert record.timestamp >= before_ms, "stamped with the time of sending"
    # Events without a key have no order to keep.
    assert sorted(map(repr, arrived.pop(None, []))) == sorted(map(repr, expected.pop(None, [])))
    assert arrived == expected


def test_a_key_goes_to_the_partition_that_other_clients_choose(kafka: EmbeddedKafka) -> None:
    settings = topic(kafka)
    keys = [f"order-{number}".encode() for number in range(200)] + ["ключ".encode(), b"", b"\xff\x00"]
    send(settings, [StreamEvent("ours", key, b"{}", 0) for key in keys])
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "partitioner": "murmur2_random"})
    for key in keys:
        producer.produce(settings.topic_updates, b"[]", key)
    assert producer.flush(20) == 0
    del producer

    by_value: dict[bytes | None, dict[bytes | None, int]] = defaultdict(dict)
    for record in received(settings):
        by_value[record.value][record.key] = record.partition
    # The empty key is where the clients differ: librdkafka takes it for none.
    assert {**by_value[b"{}"], b"": 0} == {**by_value[b"[]"], b"": 0}
    assert len(set(by_value[b"{}"].values())) == PARTITIONS


def test_records_up_to_the_limit_of_the_topic_are_sent_and_a_larger_one_stops_with_an_error(
    kafka: EmbeddedKafka,
) -> None:
    settings = topic(kafka, max_message_bytes="1048588").model_copy(update={"compression": "none"})
    assert send(settings, [StreamEvent("large", b"k", b"x" * 1_000_000, 0)] * 3).events == 3
    with pytest.raises(WorkerError, match=rf"{settings.topic_updates}.*MessageSizeTooLarge"):
        send(settings, [StreamEvent("too large", b"k", b"x" * 1_100_000, 0)])


def test_a_paced_stream_keeps_its_rate_and_its_duration(kafka: EmbeddedKafka) -> None:
    settings = topic(kafka)
    begun_ms: list[float] = []

    def events() -> Iterator[StreamEvent]:
        begun_ms.append(time.time() * 1_000)
        yield from generate(None, seed=1)

    sent = send(settings, events(), Pace(events_per_second=400, duration_seconds=1.5))
    # Never faster than asked; how much slower depends on who else uses the machine.
    assert 100 < sent.events <= 601
    stamps = sorted(record.timestamp for record in received(settings))
    assert len(stamps) == sent.events
    slack_ms = 100  # between the player's look at the clock and ours
    too_early = [n for n, stamp in enumerate(stamps) if stamp < begun_ms[0] + n * 1_000 / 400 - slack_ms]
    assert not too_early, "sent before it was due"


def test_a_stream_ends_when_it_is_told_to_stop(kafka: EmbeddedKafka) -> None:
    settings = topic(kafka)

    async def stopped_after_the_first_chunk() -> Sent:
        stop = asyncio.Event()
        return await play(settings, generate(None, seed=1), Pace(), stop=stop, on_sent=lambda _: stop.set())

    sent = asyncio.run(stopped_after_the_first_chunk())
    assert 0 < sent.events == len(received(settings))


def test_a_missing_topic_and_a_missing_broker_are_named_before_anything_is_sent(kafka: EmbeddedKafka) -> None:
    nowhere = Settings(bootstrap_servers=kafka.bootstrap_servers, topic_updates="no-such-topic")
    with pytest.raises(TopicsError, match="no-such-topic"):
        send(nowhere, generate(1, seed=1))
    with pytest.raises(BrokerUnreachable, match=r"127\.0\.0\.1:1"):
        send(Settings(bootstrap_servers="127.0.0.1:1"), generate(1, seed=1))
