"""What fell out of the normal course is cleared away: after two looks, and never on a cache's word."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from provisioner_world.builders import GPU_TAINT, pool
from provisioner_world.memory_pools import MemoryPools
from provisioner_world.processes import ProvisionerProcess

from controlkit.cache import Cache
from controlkit.clock import SystemClock
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpu_provisioner.azure.errors import Failure
from gpu_provisioner.azure.gateway import Gateway
from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import CLAIM_TAG, CREATED_TAG, KIND_TAG, UID_TAG
from gpu_provisioner.claims.machine import MachineDialect
from gpu_provisioner.claims.nodeclaim import NodeClaimDialect
from gpu_provisioner.collector.collect import Collector, Served
from gpu_provisioner.pools.roster import Roster
from gpuapis.core import Node
from gpuapis.labels import AGENT_POOL, TERMINATION_FINALIZER, WORKSPACE
from gpuapis.machine import Machine
from sandbox.controlplane import ControlPlane

LAUNCHED = {"type": "MachineLaunched", "status": "True"}
REGISTERED = {"type": "MachineRegistered", "status": "True"}


@dataclass
class Sweeper:
    """A collector whose caches hold what a test puts there."""

    client: KubeClient
    pools: MemoryPools
    gateway: Gateway
    machines: Cache[Machine]
    nodes: Cache[Node]
    collector: Collector

    async def sweep(self, times: int = 1) -> None:
        await self.gateway.directory.refresh()
        for _ in range(times):
            await self.collector.sweep()

    def state(self, name: str) -> str:
        """How that pool is at Azure."""
        return self.pools.pools[name].state

    def leave(self, name: str, uid: str = "uid-gone", minutes: float = 5) -> Pool:
        """Leaves a pool of a claim of that uid at Azure."""
        made = SystemClock().now() - timedelta(minutes=minutes)
        tags = {
            CLAIM_TAG: name,
            UID_TAG: uid,
            KIND_TAG: "Machine",
            CREATED_TAG: made.isoformat(),
        }
        self.pools.pools[name] = replace(pool(tags=tags), name=name)
        return self.pools.pools[name]

    async def claim(self, name: str, *conditions: dict[str, str]) -> Machine:
        """Creates a claim with these conditions, and lets the cache see it."""
        meta = {"name": name, "labels": {WORKSPACE: "phi-3"}}
        await self.client.create(Machine.RESOURCE, {"metadata": meta, "spec": {}})
        await self.client.merge_patch(
            Machine.RESOURCE,
            Key("", name),
            {"status": {"conditions": list(conditions)}},
            subresource="status",
        )
        found = await self.client.get(Machine, Key("", name))
        assert found is not None
        self.machines.upsert(found)
        return found

    async def node(self, name: str, of: str, *, ready: bool) -> Node:
        """Creates a node that our finalizer holds, and lets the cache see it."""
        await self.client.create(
            Node.RESOURCE,
            {
                "metadata": {
                    "name": name,
                    "labels": {AGENT_POOL: of},
                    "finalizers": [TERMINATION_FINALIZER],
                },
                "spec": {"taints": [{"key": GPU_TAINT.key, "effect": GPU_TAINT.effect}]},
            },
        )
        condition = {"type": "Ready", "status": "True" if ready else "False"}
        await self.client.merge_patch(
            Node.RESOURCE,
            Key("", name),
            {"status": {"conditions": [condition]}},
            subresource="status",
        )
        found = await self.client.get(Node, Key("", name))
        assert found is not None
        self.nodes.upsert(found)
        return found


@pytest.fixture
async def sweeper(
    control_plane: ControlPlane, apply_crds: list[str], provisioner_process: ProvisionerProcess
) -> AsyncIterator[Sweeper]:
    provisioner_process.stop()  # it would serve the claims that are made here
    client = await KubeClient.connect(
        user_agent="test", field_manager="test", kubeconfig=control_plane.kubeconfig
    )
    clock, pools = SystemClock(), MemoryPools()
    machines, nodes = Cache(Machine), Cache(Node)
    nodeclaims = NodeClaimDialect()
    async with client:
        gateway = Gateway(pools, clock)
        kinds = [Served(MachineDialect(), machines), Served(nodeclaims, Cache(nodeclaims.view))]
        roster = Roster()
        for kind in kinds:
            roster.follow(kind.dialect, kind.cache)
        collector = Collector(
            client=client,
            gateway=gateway,
            kinds=kinds,
            roster=roster,
            nodes=nodes,
            clock=clock,
            locks=defaultdict(asyncio.Lock),
            period=0.01,
        )
        yield Sweeper(client, pools, gateway, machines, nodes, collector)
        for view in (Machine, Node):
            for item in (await client.list(view)).items:
                await client.merge_patch(
                    view.RESOURCE, item.key, {"metadata": {"finalizers": None}}
                )
                await client.delete(view.RESOURCE, item.key)


async def test_35_a_leaked_pool_goes_at_the_second_sight(sweeper: Sweeper) -> None:
    sweeper.leave("leaked")
    await sweeper.sweep()
    assert sweeper.state("leaked") == "Succeeded"
    await sweeper.sweep()
    assert sweeper.state("leaked") == "Deleting"


async def test_35_a_young_pool_is_left_alone(sweeper: Sweeper) -> None:
    sweeper.leave("young", minutes=0.3)
    await sweeper.sweep(times=3)
    assert sweeper.state("young") == "Succeeded"


async def test_a_pool_is_kept_when_the_claim_exists_after_all(sweeper: Sweeper) -> None:
    meta = {"name": "late", "labels": {WORKSPACE: "phi-3"}}
    made = await sweeper.client.create(Machine.RESOURCE, {"metadata": meta, "spec": {}})
    sweeper.leave("late", uid=made.uid)  # the cache has not seen the claim
    await sweeper.sweep(times=3)
    assert sweeper.state("late") == "Succeeded"


async def test_36_a_pool_that_is_not_ours_is_never_deleted(sweeper: Sweeper) -> None:
    sweeper.pools.pools["theirs"] = replace(pool(tags={}, labels={"team": "a"}), name="theirs")
    sweeper.pools.pools["sys"] = replace(sweeper.leave("sys"), system=True)
    await sweeper.sweep(times=3)
    assert [each.state for each in sweeper.pools.pools.values()] == ["Succeeded", "Succeeded"]


async def test_nothing_is_deleted_while_azure_cannot_be_seen(sweeper: Sweeper) -> None:
    sweeper.leave("leaked")
    await sweeper.sweep()
    sweeper.pools.fail["list"] = [Failure("no-cluster", "gone")] * 3
    for _ in range(3):
        await sweeper.sweep()
    assert sweeper.pools.count("delete") == 0


async def test_a_pool_is_kept_while_its_kind_of_claim_is_not_served(sweeper: Sweeper) -> None:
    kept = sweeper.leave("unknown")
    sweeper.pools.pools["unknown"] = replace(kept, tags={**kept.tags, KIND_TAG: "Elsewhere"})
    await sweeper.sweep(times=3)
    assert sweeper.pools.count("delete") == 0


@pytest.mark.parametrize("ready", [False, True])
async def test_34_a_claim_whose_pool_is_gone_goes_unless_its_node_works(
    sweeper: Sweeper, ready: bool
) -> None:
    name = f"vanished{int(ready)}"
    await sweeper.claim(name, LAUNCHED, REGISTERED)
    await sweeper.node(f"{name}-node", name, ready=ready)
    await sweeper.sweep(times=2)
    kept = await sweeper.client.get(Machine, Key("", name))
    assert (kept is not None) is ready


async def test_34_a_claim_is_kept_when_its_pool_is_there_after_all(sweeper: Sweeper) -> None:
    claim = await sweeper.claim("hidden", LAUNCHED, REGISTERED)
    await sweeper.sweep()
    sweeper.leave("hidden", uid=claim.metadata.uid)
    await sweeper.collector.sweep()  # the directory has not seen it yet
    assert await sweeper.client.get(Machine, claim.key) is not None


async def test_a_claim_whose_node_is_nowhere_goes(sweeper: Sweeper) -> None:
    claim = await sweeper.claim("nodeless", LAUNCHED, REGISTERED)
    sweeper.leave("nodeless", uid=claim.metadata.uid)
    await sweeper.sweep(times=2)
    assert await sweeper.client.get(Machine, claim.key) is None


async def test_a_claim_whose_node_the_cache_has_missed_stays(sweeper: Sweeper) -> None:
    claim = await sweeper.claim("noded", LAUNCHED, REGISTERED)
    sweeper.leave("noded", uid=claim.metadata.uid)
    node = await sweeper.node("noded-node", "noded", ready=True)
    sweeper.nodes.remove(node)
    await sweeper.sweep(times=3)
    assert await sweeper.client.get(Machine, claim.key) is not None


async def test_a_node_that_nobody_claims_is_let_go(sweeper: Sweeper) -> None:
    node = await sweeper.node("orphan-node", "orphan", ready=False)
    await sweeper.sweep(times=2)
    assert await sweeper.client.get(Node, node.key) is None


async def test_a_node_whose_claim_the_cache_has_missed_is_kept(sweeper: Sweeper) -> None:
    node = await sweeper.node("kept-node", "kept", ready=True)
    claim = await sweeper.claim("kept")
    sweeper.machines.remove(claim)
    await sweeper.sweep(times=3)
    assert await sweeper.client.get(Node, node.key) is not None


async def test_a_sweep_that_fails_is_done_again(sweeper: Sweeper) -> None:
    sweeper.leave("leaked")
    sweeper.pools.fail["delete"] = [Failure("transient", "500")]
    async with asyncio.TaskGroup() as group:
        await sweeper.gateway.directory.refresh()
        running = group.create_task(sweeper.collector.run())
        await _until(lambda: sweeper.state("leaked") == "Deleting")
        running.cancel()


async def _until(done: Callable[[], bool]) -> None:
    for _ in range(500):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not happen within 5 s")
