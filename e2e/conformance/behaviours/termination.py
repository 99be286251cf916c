"""Termination: how a claim, its Node and its machine leave."""

import asyncio
from typing import Final

from conformance.suite import behaviour
from conformance.trial import BUDGETS, Trial, require
from controlkit.kube.objects import Key
from gpuapis import labels
from gpuapis.core import Node, Pod

GROUP: Final = "Termination"


@behaviour("29", GROUP, "A claim deleted while its machine is being made leaves nothing")
async def deleted_early(trial: Trial) -> str:
    """Deletes the claim as soon as its cloud works on it."""
    name = trial.name()
    await trial.control.inject("slow", pool=name, factor=30)
    await trial.create(name)

    async def under_way() -> bool:
        return bool(await trial.machines(name))

    await trial.until(under_way, "a machine is being made")
    clock = asyncio.get_running_loop()
    began = clock.time()
    await trial.delete(name)
    await trial.is_gone(name)
    return f"all gone after {clock.time() - began:.1f} s, the claim last"


@behaviour(
    "31", GROUP, "A ready claim leaves in order: no new pods, drain by budget, Node, machine"
)
async def orderly(trial: Trial) -> str:
    """Protects a pod by a budget for a while."""
    name = await trial.create()
    await trial.becomes(name)
    node = await trial.node(name)
    free = await trial.run_pod(node, f"{name}-free")
    kept = await trial.run_pod(node, f"{name}-kept", app=name)
    await _runs(trial, free)
    await _runs(trial, kept)
    budget = await trial.protect(name)
    await _guards(trial, budget)
    await trial.delete(name)

    async def closed() -> bool:
        now = await trial.world.client.get(Node, node.key)
        assert now is not None
        tainted = any(taint.key == labels.DISRUPTED_TAINT for taint in now.spec.taints)
        return tainted or now.spec.unschedulable

    await trial.until(closed, "the Node takes no further pods")

    async def evicted() -> bool:
        return await trial.world.client.get(Pod, free) is None

    await trial.until(evicted, "the unprotected pod is gone")

    async def guarded() -> bool:
        there = await trial.world.client.get(Pod, kept) is not None
        return there and await trial.machines(name) == 1

    await trial.stays(guarded, "protected pod and machine are there", 3)
    await trial.world.client.delete(BUDGETS, budget)
    await trial.is_gone(name)
    return "tainted; free pod evicted; protected pod held the machine until its budget went"


async def _runs(trial: Trial, pod: Key) -> None:
    async def look() -> bool:
        found = await trial.world.client.get(Pod, pod)
        return found is not None and found.ready

    await trial.until(look, f"pod {pod.name} runs")


async def _guards(trial: Trial, budget: Key) -> None:
    """Waits until the budget counts its pod: before that it forbids everything or nothing."""

    async def look() -> bool:
        status = (await trial.world.client.read(BUDGETS.path(*budget))).get("status", {})
        return int(status.get("currentHealthy", 0)) == 1

    await trial.until(look, "the budget counts its pod")


@behaviour("32", GROUP, "terminationGracePeriod ends what a budget forbids", kinds=("nodeclaim",))
async def grace(trial: Trial) -> str:
    """Lets a budget forbid what a grace period of 4 s ends."""
    name = await trial.create(terminationGracePeriod="4s")
    await trial.becomes(name)
    kept = await trial.run_pod(await trial.node(name), f"{name}-kept", app=name)
    await _runs(trial, kept)
    budget = await trial.protect(name)
    await _guards(trial, budget)
    clock = asyncio.get_running_loop()
    began = clock.time()
    await trial.delete(name)
    await trial.is_gone(name)
    await trial.world.client.delete(BUDGETS, budget)
    return f"grace 4 s: all gone after {clock.time() - began:.1f} s in spite of the budget"


@behaviour("33", GROUP, "Deleting the Node removes claim and machine")
async def node_deleted(trial: Trial) -> str:
    """Deletes the Node by hand."""
    name = await trial.create()
    await trial.becomes(name)
    node = await trial.node(name)
    await trial.world.client.delete(Node.RESOURCE, node.key)
    await trial.is_gone(name)
    return "claim, Node and machine are gone"


@behaviour("38", GROUP, "A claim waits for a pool of its name that is being deleted", aks=True)
async def name_in_use(trial: Trial) -> str:
    """Lets the pool of an earlier claim of the name go slowly."""
    name = await trial.create()
    await trial.becomes(name)
    await trial.control.inject("slow", verb="DELETE", pool=name, factor=10)
    await trial.delete(name)

    async def deleting() -> bool:
        pool = (await trial.control.pools()).get(name)
        return pool is not None and pool["properties"]["provisioningState"] == "Deleting"

    await trial.until(deleting, "the pool is being deleted")
    patch = {"metadata": {"finalizers": None}}
    await trial.world.client.merge_patch(trial.resource, Key("", name), patch)
    await trial.create(name)
    await trial.becomes(name, seconds=60)
    refused = [status for status in await trial.asked(name) if status >= 400]
    require(not refused, f"AKS had to refuse: {refused}")
    return f"answers to PUT: {await trial.asked(name)}; the second claim became Ready"
