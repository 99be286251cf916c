"""Initialization and readiness: when a claim's Node may be used."""

import asyncio
from typing import Any, Final

from conformance.suite import behaviour
from conformance.trial import GPU, HOLD, Trial, require

GROUP: Final = "Initialization and readiness"
WATCHED_SECONDS: Final = 2.0


@behaviour("15", GROUP, "Not initialized while the Node is NotReady")
async def not_ready(trial: Trial) -> str:
    """Makes the Node NotReady before the last startup taint goes."""
    async with trial.held() as (name, node):
        await trial.set_ready(node, "False")
    said = await _waits(trial, name, "NodeNotReady")
    await trial.set_ready(node, "True")
    await trial.becomes(name, "Initialized")
    return said


@behaviour("16", GROUP, "Not initialized while a startup taint remains")
async def startup_taint(trial: Trial) -> str:
    """Leaves the startup taint for a while."""
    async with trial.held() as (name, _):
        said = await _waits(trial, name, "StartupTaintsExist")
    await trial.becomes(name, "Initialized")
    return said


@behaviour("17", GROUP, "Not initialized while an ephemeral taint remains")
async def ephemeral_taint(trial: Trial) -> str:
    """Puts the cloud provider's own taint on the Node."""
    taint = {
        "key": "node.cloudprovider.kubernetes.io/uninitialized",
        "value": "true",
        "effect": "NoSchedule",
    }
    async with trial.held() as (name, node):
        present: list[dict[str, Any]] = [each.manifest() for each in node.spec.taints]
        swapped = [each for each in present if each["key"] != HOLD["key"]]
        await trial.change(node, {"spec": {"taints": [*swapped, taint]}})
        said = await _waits(trial, name, "KnownEphemeralTaintsExist")
        await trial.change(node, {"spec": {"taints": swapped}})
    await trial.becomes(name, "Initialized")
    return said


@behaviour("18", GROUP, "Not initialized until the requested GPU is allocatable")
async def gpu(trial: Trial) -> str:
    """Takes the GPU away before the last startup taint goes."""
    async with trial.held() as (name, _):
        await _set_gpus(trial, name, "0")
    said = await _waits(trial, name, "ResourceNotRegistered")
    await _set_gpus(trial, name, "1")
    await trial.becomes(name, "Initialized")
    require(GPU in said, f"the resource is not named: {said}")
    return said


async def _set_gpus(trial: Trial, name: str, count: str) -> None:
    async def shown() -> bool:
        return GPU in (await trial.node(name)).status.allocatable

    await trial.until(shown, "the device plugin has shown the GPU")
    status = {"capacity": {GPU: count}, "allocatable": {GPU: count}}
    await trial.change(await trial.node(name), {"status": status}, subresource="status")


@behaviour("19", GROUP, "A storage request does not wait for a resource of that name")
async def storage(trial: Trial) -> str:
    """Takes `storage` off the Node's status, should it be there."""
    async with trial.held(resources={"requests": {"storage": "120Gi"}}) as (name, node):
        gone: dict[str, Any] = {"storage": None}
        status = {"capacity": gone, "allocatable": gone}
        await trial.change(node, {"status": status}, subresource="status")
    await trial.becomes(name, "Initialized", seconds=8)
    return "initialized without an allocatable resource `storage`"


@behaviour("20", GROUP, "Ready follows the steps, as each API words it")
async def root(trial: Trial) -> str:
    """Reads Ready before and after initialization."""
    async with trial.held() as (name, _):
        await trial.says(name, "StartupTaintsExist", "Initialized")
        before = await trial.condition(name, "Ready")
        expected = {"machine": "False", "nodeclaim": "Unknown"}[trial.kind]
        require(before.status == expected, f"Ready was {before}")
        if trial.kind == "machine":
            initialized = await trial.condition(name, "Initialized")
            same = (before.reason, before.message) == (initialized.reason, initialized.message)
            require(same, f"Ready says {before}, Initialized {initialized}")
        else:
            require("Initialized=Unknown" in before.message, f"Ready says {before.message!r}")
    await trial.becomes(name)
    steps = [
        await trial.condition(name, step) for step in ("Launched", "Registered", "Initialized")
    ]
    require(all(step.status == "True" for step in steps), f"Ready True, but {steps}")
    return f"Ready {before.status} {before.reason} while held, then True with all three steps"


async def _waits(trial: Trial, name: str, reason: str) -> str:
    """Initialized has that reason and stays so for a while."""
    said = await trial.says(name, reason, "Initialized")
    await asyncio.sleep(WATCHED_SECONDS)
    now = await trial.condition(name, "Initialized")
    require(now.status != "True", f"it was initialized in spite of {reason}")
    require((await trial.condition(name, "Ready")).status != "True", "Ready was True")
    return f"Initialized {said.status} {reason}: {said.message[:100]}"
