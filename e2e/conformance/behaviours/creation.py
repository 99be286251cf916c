"""Scope and create: which claims are served, and that each is asked for once."""

import asyncio
from typing import Any, Final

from conformance.history import told
from conformance.suite import behaviour
from conformance.trial import GPU, OWNER, SIZE, Trial, instance_type, require
from controlkit.kube.objects import Key
from gpuapis import labels

GROUP: Final = "Scope and create"
ERROR_REASONS: Final = frozenset(
    {"LaunchFailed", "InternalError", "InvalidRequest", "QuotaExceeded", "PoolNameTaken"}
)
"""What a person would take for a failure of the claim."""


@behaviour("1", GROUP, "A claim of another class and without owner label is left alone")
async def foreign(trial: Trial) -> str:
    """Looks at a stranger's claim until one of ours is ready."""
    name = trial.name()
    spec: dict[str, Any] = {"requirements": [instance_type(SIZE)], "resources": {}}
    if trial.kind == "nodeclaim":
        spec["nodeClassRef"] = {"group": "example.com", "kind": "OtherClass", "name": "default"}
    made = await trial.world.client.create(
        trial.resource, {"metadata": {"name": name}, "spec": spec}
    )
    trial.made[name] = made.uid
    await trial.becomes(await trial.create())
    stranger = await trial.claim(name)
    assert stranger is not None
    require(not stranger.metadata.finalizers, f"it got {stranger.metadata.finalizers}")
    require(not stranger.status.conditions, f"it got conditions: {await trial.story()}")
    require(await trial.machines(name) == 0, "a machine was made for it")
    return "no finalizer, no condition, no machine"


@behaviour("2", GROUP, "The finalizer is there before the cloud is asked for anything")
async def finalizer_first(trial: Trial) -> str:
    """Looks at the claim while its first request is on the way."""
    name = trial.name()
    if trial.world.provisioner.aks:
        await trial.control.inject("delay", pool=name, seconds=1)
        await trial.create(name)

        async def asked() -> bool:
            return bool(await trial.control.calls("PUT", pool=name))

        await trial.until(asked, "AKS is asked for a pool")
    else:
        await trial.create(name)
        await trial.node(name)
    claim = await trial.claim(name)
    assert claim is not None
    finalizers = claim.metadata.finalizers
    require(labels.TERMINATION_FINALIZER in finalizers, f"finalizers were {finalizers}")
    return "finalizer set while the first request was under way"


@behaviour("3", GROUP, "One machine per claim, also when the process dies after asking", alone=True)
async def one_after_a_crash(trial: Trial) -> str:
    """Kills the provisioner as soon as its cloud has heard of the claim."""
    name = await trial.create()

    async def asked() -> bool:
        return bool(await trial.machines(name))

    await trial.until(asked, "a machine is being made")
    await trial.world.restart()
    await trial.becomes(name)
    return await _one(trial, name)


@behaviour("4", GROUP, "A claim that is reconciled many times at once is asked for once")
async def one_when_hurried(trial: Trial) -> str:
    """Changes the claim over and over while its machine is being made."""
    name = await trial.create()
    for number in range(30):
        patch = {"metadata": {"annotations": {"conformance/touch": str(number)}}}
        await trial.world.client.merge_patch(trial.resource, Key("", name), patch)
    await trial.becomes(name)
    return await _one(trial, name)


async def _one(trial: Trial, name: str) -> str:
    machines = await trial.machines(name)
    require(machines == 1, f"{machines} machines")
    if not trial.world.provisioner.aks:
        return "1 machine"
    created = (await trial.control.created_pools()).count(name)
    require(created == 1, f"{created} pools were created")
    return "1 pool created, 1 machine"


@behaviour(
    "5", GROUP, "A name that can't be a pool's is refused for good, without asking the cloud"
)
async def bad_name(trial: Trial) -> str:
    """Uses dashes, which AKS does not take."""
    return await _refused(trial, await trial.create(f"{trial.name()}-not-a-pool"))


@behaviour("6", GROUP, "A claim that names no instance type is refused for good")
async def no_type(trial: Trial) -> str:
    """Asks for Linux and nothing else."""
    linux = {"key": labels.OS, "operator": "In", "values": ["linux"]}
    return await _refused(trial, await trial.create(requirements=[linux]))


@behaviour("7", GROUP, "An instance type that is not said with In is refused, never guessed")
async def vague_type(trial: Trial) -> str:
    """Excludes a size, asks for any, and for one above a number."""
    for requirement in (
        instance_type(SIZE, operator="NotIn"),
        instance_type(operator="Exists"),
        instance_type("1", operator="Gt"),
    ):
        name = await trial.create(requirements=[requirement])
        await _refused(trial, name, f"with {requirement['operator']} ")
    return "NotIn, Exists, Gt: Launched False InvalidRequest, nothing asked"


async def _refused(trial: Trial, name: str, how: str = "") -> str:
    """The claim has ended with a reason, and nothing was asked for."""
    await trial.becomes(name, "Launched", "False", seconds=6)
    said = await trial.condition(name, "Launched")
    require(said.reason == "InvalidRequest", f"{how}the reason was {said.reason}: {said.message}")
    await asyncio.sleep(1)
    require(await trial.machines(name) == 0, f"{how}a machine was made")
    require(await trial.asked(name) == [], f"{how}AKS was asked")
    return f"Launched False {said.reason}: {said.message[:120]}"


@behaviour("8", GROUP, "The storage request becomes the OS disk, rounded up", aks=True)
async def disk(trial: Trial) -> str:
    """Asks for 120 GiB, for 1,500 MB, and for nothing."""
    seen = {}
    for storage in ("120Gi", "1500M", ""):
        requests = {GPU: "1", **({"storage": storage} if storage else {})}
        name = await trial.create(resources={"requests": requests})
        seen[storage or "none"] = (await _body(trial, name)).get("osDiskSizeGB")
    require(seen == {"120Gi": 120, "1500M": 2, "none": None}, f"osDiskSizeGB was {seen}")
    return "120Gi: 120, 1500M: 2, none: left to AKS"


@behaviour("10", GROUP, "A label of the claim goes before the provisioner's own default")
async def own_labels(trial: Trial) -> str:
    """Sets labels that provisioners set as well."""
    owner = labels.NODEPOOL if trial.kind == "nodeclaim" else labels.PROVISIONER_NAME
    wanted = {owner: "mine", labels.MACHINE_TYPE: "cpu"}
    name = await trial.create(labels=wanted)
    await trial.becomes(name)
    present = (await trial.node(name)).metadata.labels
    found = {key: present.get(key) for key in wanted}
    require(found == wanted, f"the Node has {found} instead of {wanted}")
    return f"the Node has {', '.join(f'{key}={value}' for key, value in wanted.items())}"


@behaviour("30", GROUP, "A claim deleted before it was launched costs nothing", alone=True)
async def deleted_unlaunched(trial: Trial) -> str:
    """Lets the provisioner find a claim that is going already."""
    await trial.world.stop()
    name = await trial.create(finalizers=["conformance/hold"])
    await trial.delete(name)
    await trial.world.start()
    await trial.becomes(await trial.create())
    require(await trial.machines(name) == 0, "a machine was made for it")
    require(await trial.asked(name) == [], "AKS was asked for a pool")
    patch = {"metadata": {"finalizers": None}}
    await trial.world.client.merge_patch(trial.resource, Key("", name), patch)
    await trial.is_gone(name)
    return "nothing asked, the claim went"


@behaviour(
    "49", GROUP, "A connection cut after the accepted PUT: one pool, no error told", aks=True
)
async def cut(trial: Trial) -> str:
    """Drops the answer to the PUT."""
    name = trial.name()
    await trial.control.inject("cut", pool=name)
    await trial.create(name)
    await trial.becomes(name)
    told_of = {told(state, "Launched").reason for state in trial.states(name)} & ERROR_REASONS
    require(not told_of, f"Launched had the reasons {told_of}")
    created = (await trial.control.created_pools()).count(name)
    require(created == 1, f"{created} pools were created")
    return f"answers to PUT: {await trial.asked(name)}; 1 pool, no error reason"


@behaviour("50", GROUP, "The PUT says what it must, and nothing read-only", aks=True)
async def body(trial: Trial) -> str:
    """Reads what AKS was sent."""
    sent = await _body(trial, await trial.create())
    needed = {"type", "count", "vmSize", "osType", "nodeLabels", "nodeTaints"}
    require(needed <= set(sent), f"the body lacks {sorted(needed - set(sent))}")
    read_only = {"provisioningState", "eTag", "currentOrchestratorVersion", "nodeImageVersion"}
    require(not read_only & set(sent), f"the body holds {sorted(read_only & set(sent))}")
    require(sent["type"] == "VirtualMachineScaleSets", f"type is {sent['type']}")
    require(sent["vmSize"] == SIZE, f"vmSize is {sent['vmSize']}")
    missing = set(OWNER.items()) - set(sent["nodeLabels"].items())
    require(not missing, f"nodeLabels lack {missing}")
    require("sku=gpu:NoSchedule" in sent["nodeTaints"], f"nodeTaints are {sent['nodeTaints']}")
    return f"properties: {', '.join(sorted(sent))}"


async def _body(trial: Trial, name: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        calls = await trial.control.calls("PUT", pool=name)
        return calls[0]["body"]["properties"] if calls else None

    return await trial.until(look, "AKS is asked for a pool")
