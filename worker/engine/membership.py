"""Whose place it is: two processes with one instance id must not take it from each other without end.

A static member that starts takes the place of the one before with the same instance id, which is what makes a restart
quick. aiokafka's heartbeats do not carry the instance id, so the broker tells the one before only that its member id
is unknown, as it tells a member that was silent for too long; and aiokafka joins again, which takes the place back.
So before it joins again a member asks who has its place now.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiokafka.errors import KafkaError
from aiokafka.protocol.admin import DescribeGroupsRequest
from aiokafka.protocol.group import JoinGroupRequest

from worker.errors import Fenced

_ANSWER_SECONDS: Final = 2.0
"""When the coordinator does not answer, the member joins again: the next time it asks again."""
_UUID_CHARACTERS: Final = 36


class Membership:
    """One static member, as the group knew it at the last assignment."""

    def __init__(self, group: str, instance_id: str) -> None:
        self._group = group
        self._instance_id = instance_id
        self._member_id: str | None = None

    @property
    def group_instance_id(self) -> str:
        """The name of the static member; groups of different apps may use the same instance ids."""
        return f"{self._group}-{self._instance_id}"

    def note(self, coordinator: Any) -> None:
        """Call with aiokafka's group coordinator at every assignment."""
        self._member_id = coordinator.member_id

    async def require_own_place(self, coordinator: Any) -> None:
        """Call before the member joins again. Raises Fenced when another process has taken its place.

        Returns also when the place is free, because the session timed out: whoever took over its partitions then
        has another instance id, and joining again is right.
        """
        forgotten: bool = coordinator.member_id == JoinGroupRequest.UNKNOWN_MEMBER_ID
        if self._member_id is None or not forgotten:
            return
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                holder = await self._holder(coordinator)
        except (KafkaError, TimeoutError):
            return
        if holder not in (None, self._member_id):
            raise Fenced(
                f"another worker has joined the group {self._group} with this one's instance id, {self._instance_id}",
                "give every worker its own WORKER_INSTANCE_ID; when this one was only replaced, nothing",
            )

    async def _holder(self, coordinator: Any) -> str | None:
        """The member id of whoever is in the group with our instance id: the broker makes it `<instance id>-<uuid>`."""
        answer = await coordinator._send_req(DescribeGroupsRequest([self._group]))
        for group in answer.to_object()["groups"]:
            for member in group["members"]:
                member_id: str = member["member_id"]
                if member_id[: -_UUID_CHARACTERS - 1] == self.group_instance_id:
                    return member_id
        return None
