"""API choice: which claims are served where."""

import asyncio
from typing import Final

from conformance.suite import NotApplicable, behaviour
from conformance.trial import Trial, require
from controlkit.kube.objects import Key, Resource
from sandbox.controlplane.crds import apply_crds

GROUP: Final = "API choice"
CRDS: Final = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


@behaviour(
    "44", GROUP, "Without a claim API that it knows it is not ready, and says so", alone=True
)
async def no_api(trial: Trial) -> str:
    """Takes the claim APIs away, starts it, and brings them back."""
    world = trial.world
    await world.stop()
    names = ("nodeclaims.karpenter.sh", "machines.karpenter.sh")
    for name in names:
        await world.client.delete(CRDS, Key("", name))

    async def unserved() -> bool:
        return not await world.client.serves(trial.resource)

    await trial.until(unserved, "the claim APIs are gone")
    replica = await world.start(ready=False)
    await asyncio.sleep(4)
    alive, (status, said) = replica.process.alive(), await replica.says()
    await apply_crds(world.plane.admin)
    await world.provisioner.install(world.client, world.around.folder)
    recovered = await _recovers(trial)
    await world.restart()
    require(status not in (0, 200), f"its probe answered {status} {said}; alive: {alive}")
    require("karpenter" in said.lower() or "claim" in said.lower(), f"its probe said {said!r}")
    return f"probe: {status} {said[:120]}; {recovered}"


async def _recovers(trial: Trial) -> str:
    replica = trial.world.replicas[-1]
    if not replica.process.alive():
        return "it had ended by itself"

    async def ready() -> bool:
        return (await replica.says())[0] == 200

    await trial.until(ready, "it becomes ready once the APIs are there", 45)
    return "ready once the APIs were there"


@behaviour("45", GROUP, "Machine and NodeClaim are served side by side", kinds=("nodeclaim",))
async def side_by_side(trial: Trial) -> str:
    """Makes one of each."""
    if "machine" not in trial.world.provisioner.kinds:
        raise NotApplicable("it serves NodeClaims alone")
    other = Trial(trial.world, "machine")
    ours, theirs = await trial.create(), await other.create()
    await trial.becomes(ours)
    await other.becomes(theirs)
    await other.delete(theirs)
    await other.is_gone(theirs)
    require(await trial.claim(ours) is not None, "the NodeClaim went with the Machine")
    return "both Ready; deleting the Machine left the NodeClaim"
