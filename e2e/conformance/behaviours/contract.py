"""The contract: what a workspace controller counts on, whoever the provisioner is."""

import asyncio
from typing import Final

from conformance.history import told
from conformance.suite import behaviour
from conformance.trial import OWNER, SIZE, TAINT, Trial, instance_type, require
from gpuapis import labels

GROUP: Final = "Contract"
NOBODY_HAS: Final = "Standard_None_v9"
ON_THE_WAY: Final = frozenset({"AwaitingReconciliation", "PoolCreating", "MachineNotLaunched"})
"""Reasons that say only that it goes on."""


@behaviour("C1", GROUP, "Exactly one Node per claim")
async def one_node(trial: Trial) -> str:
    """Makes three claims at once."""
    names = [await trial.create() for _ in range(3)]
    for name in names:
        await trial.becomes(name)
    nodes = {name: [node.metadata.name for node in await trial.nodes(name)] for name in names}
    all_nodes = [node for found in nodes.values() for node in found]
    require(len(all_nodes) == len(set(all_nodes)) == 3, f"Nodes: {nodes}")
    return "3 claims, 3 Nodes"


@behaviour("C2", GROUP, "nodeName and providerID are there no later than Registered")
async def names_in_time(trial: Trial) -> str:
    """Reads every state that the claim was in."""
    name = await trial.create()
    await trial.becomes(name)
    states = [state for state in trial.states(name) if told(state, "Registered").status == "True"]
    bare = [s for s in states if not (s.status.node_name and s.status.provider_id)]
    require(not bare, f"{len(bare)} of {len(states)} registered states lacked one")
    return f"all {len(states)} registered states have both"


@behaviour("C3", GROUP, "Ready is True only when the claim is initialized")
async def ready_last(trial: Trial) -> str:
    """Reads every state that the claim was in."""
    name = await trial.create()
    await trial.becomes(name)
    early = [
        state
        for state in trial.states(name)
        if told(state, "Ready").status == "True" and told(state, "Initialized").status != "True"
    ]
    require(not early, f"{len(early)} states were Ready and not initialized")
    return f"{len(trial.states(name))} states, none Ready before it was initialized"


@behaviour("C4", GROUP, "Why a claim is not served yet can be read by a machine")
async def reasons(trial: Trial) -> str:
    """Asks for a size that nobody has."""
    name = await trial.create(requirements=[instance_type(NOBODY_HAS)])

    async def told_why() -> str:
        for aspect in ("Launched", "Registered", "Initialized"):
            said = await trial.condition(name, aspect)
            if (
                said.status != "True"
                and NOBODY_HAS in said.message
                and said.reason not in ON_THE_WAY
            ):
                return f"{aspect} {said.status} {said.reason}: {said.message[:140]}"
        return ""

    return await trial.until(told_why, "a reason that names the size is told")


@behaviour("C5", GROUP, "The spec and the labels that the claim came with are never changed")
async def spec_untouched(trial: Trial) -> str:
    """Compares the claim with what was made."""
    name = await trial.create(labels={"apps": "phi-3"})
    made = await trial.claim(name)
    await trial.becomes(name)
    claim = await trial.claim(name)
    assert made is not None
    assert claim is not None
    require(claim.spec == made.spec, "the spec was changed")
    wanted = {**OWNER, "apps": "phi-3"}
    changed = {k: claim.metadata.labels.get(k) for k in wanted} != wanted
    require(not changed, f"labels are {claim.metadata.labels}")
    added = sorted(set(claim.metadata.labels) - set(wanted))
    return f"spec as made; labels added: {', '.join(added) or 'none'}"


@behaviour("C6", GROUP, "The Node carries the claim's taint and the size that was asked for")
async def node_as_asked(trial: Trial) -> str:
    """Reads the ready Node."""
    name = await trial.create()
    await trial.becomes(name)
    node = await trial.node(name)
    taints = {taint.key for taint in node.spec.taints}
    require(TAINT["key"] in taints, f"taints are {taints}")
    size = node.metadata.labels.get(labels.INSTANCE_TYPE)
    require(size == SIZE, f"the Node's instance type is {size}")
    return f"taint sku, {labels.INSTANCE_TYPE}={size}"


@behaviour("C7", GROUP, "The claim is held until its machine is gone")
async def held_to_the_end(trial: Trial) -> str:
    """Deletes a ready claim, and counts its machines until it goes."""
    name = await trial.create()
    await trial.becomes(name)
    await trial.control.inject("slow", verb="DELETE", pool=name, factor=3)
    await trial.delete(name)
    await trial.is_gone(name)
    return "no machine was left at any look after the claim had gone"


@behaviour("C8", GROUP, "A settled claim is left in peace")
async def peace(trial: Trial) -> str:
    """Looks whether anything is written for a while."""
    name = await trial.create()
    await trial.becomes(name)
    await asyncio.sleep(2)
    before = len(trial.states(name))
    await asyncio.sleep(4)
    writes = len(trial.states(name)) - before
    require(writes == 0, f"{writes} writes to a settled claim in 4 s")
    return "no write in 4 s"
