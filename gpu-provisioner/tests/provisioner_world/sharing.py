"""What tests of shared pools look at: who has which VM of which pool.

Invariant: all of it is read from the API server and from Azure, at the moment that it is asked for.
"""

import asyncio
from dataclasses import dataclass
from typing import Any

from controlkit_testing.waiting import eventually
from gpuapis.core import Node
from gpuapis.labels import ASSIGNED_POOL
from provisioner_world.bench import Bench


@dataclass
class Sharing:
    """A bench on which claims share pools."""

    bench: Bench

    async def create(self, count: int, **spec: Any) -> list[str]:
        """Creates claims of one shape at the same time; returns their names."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self.bench.create(**dict(spec))) for _ in range(count)]
        return [task.result() for task in tasks]

    async def all_ready(self, names: list[str], seconds: float = 40.0) -> None:
        """Waits until every claim is Ready, each with a VM of its own, and no VM is nobody's."""
        for name in names:
            await self.bench.becomes(name, seconds=seconds)
        await eventually(self._one_each, lambda: self.story("each claim has one VM"), seconds)

    async def none_left(self, names: list[str], seconds: float = 60.0) -> None:
        """Waits until these claims are gone; then none of their VMs may be left."""

        async def look() -> bool:
            return all([await self.bench.claim(name) is None for name in names])

        await eventually(look, lambda: self.story(f"{names} are gone"), seconds)
        await eventually(self._one_each, lambda: self.story("each claim has one VM"), 10)

    async def pools(self) -> dict[str, int]:
        """How many VMs each pool is to have."""
        return {
            name: int(pool["properties"]["count"])
            for name, pool in (await self.bench.control.pools()).items()
        }

    async def vms(self) -> list[str]:
        """Every VM that is paid for, but for the cluster's own."""
        pools = await self.bench.control.pools()
        return sorted(vm["node"] for vm in await self.bench.control.nodes() if vm["pool"] in pools)

    async def vm_of(self, name: str) -> str:
        """The VM of a claim."""
        claim = await self.bench.claim(name)
        assert claim is not None
        return claim.status.node_name or ""

    async def place_of(self, name: str) -> str:
        """The pool of a claim."""
        claim = await self.bench.claim(name)
        assert claim is not None
        return claim.metadata.labels.get(ASSIGNED_POOL, "")

    async def asked(self) -> list[tuple[str, str, int]]:
        """What Azure was asked to change, in order: verb, pool and answer."""
        return [
            (call["verb"], call["pool"], int(call.get("status") or 0))
            for call in await self.bench.control.calls()
            if call["verb"] in {"PUT", "DELETE", "DELETE_MACHINES"} and call.get("status") != 401
        ]

    async def story(self, wanted: str) -> str:
        """What a person would look at to find out why something did not happen."""
        lines = [wanted, f"pools {await self.pools()}", f"asked {await self.asked()}"]
        for _, name in self.bench.made:
            claim = await self.bench.claim(name)
            if claim is not None:
                told = [(c.type, c.status, c.reason) for c in claim.status.conditions]
                lines.append(f"{claim.metadata} {claim.status.node_name} {told}")
        return "\n  ".join([*lines, f"VMs {await self.vms()}", self.bench.provisioner.log(60)])

    async def _one_each(self) -> bool:
        """Whether claims and VMs correspond to each other, one to one."""
        client = self.bench.client
        owners: dict[str, str] = {}
        for node in (await client.list(Node)).items:
            for owner in node.metadata.owner_references:
                assert node.metadata.name not in owners, f"{node.metadata.name} has two owners"
                owners[node.metadata.name] = owner.uid
        claims = [await self.bench.claim(name) for _, name in self.bench.made]
        there = [claim for claim in claims if claim is not None]
        named = {claim.status.node_name or "": claim.metadata.uid for claim in there}
        return len(named) == len(there) and named == owners and sorted(named) == await self.vms()
