"""Identity and registration: how a machine becomes the claim's Node."""

from typing import Final

from conformance.history import told
from conformance.suite import behaviour
from conformance.trial import OWNER, Trial, require
from gpuapis import labels

GROUP: Final = "Identity and registration"


@behaviour("9", GROUP, "Taints and labels are on the Node before it is initialized")
async def marks(trial: Trial) -> str:
    """Holds the claim before initialization and reads its Node."""
    async with trial.held(labels={"apps": "phi-3"}) as (name, node):
        present = node.metadata.labels
        require(labels.INITIALIZED not in present, "the Node was initialized already")
        missing = set({**OWNER, "apps": "phi-3"}.items()) - set(present.items())
        require(not missing, f"the Node lacks the labels {missing}")
        taints = {taint.key for taint in node.spec.taints}
        require({"sku", "conformance/hold"} <= taints, f"the Node has the taints {taints}")
    await trial.becomes(name)
    first = trial.world.history.nodes[node.metadata.name][0]
    keys = {taint.key for taint in first.spec.taints}
    guarded = bool(keys & {"sku", labels.UNREGISTERED_TAINT}) or not first.ready
    require(guarded, f"a pod could have landed first: the Node began Ready, with taints {keys}")
    return "claim labels, taint and startup taint there; no moment in which a pod could land first"


@behaviour("11", GROUP, "status.providerID is the Node's, to the letter")
async def provider_id(trial: Trial) -> str:
    """Compares the two."""
    name = await trial.create()
    await trial.becomes(name)
    claim, node = await trial.claim(name), await trial.node(name)
    assert claim is not None
    require(
        claim.status.provider_id == node.spec.provider_id,
        f"claim: {claim.status.provider_id}, Node: {node.spec.provider_id}",
    )
    return str(claim.status.provider_id)


@behaviour("12", GROUP, "A claim that is Launched has a providerID")
async def launched_has_id(trial: Trial) -> str:
    """Reads every state that the claim was in."""
    name = await trial.create()
    await trial.becomes(name)
    states = [state for state in trial.states(name) if told(state, "Launched").status == "True"]
    bare = [state for state in states if not state.status.provider_id]
    require(not bare, f"{len(bare)} of {len(states)} states were Launched without a providerID")
    return f"all {len(states)} states with Launched True have one"


@behaviour(
    "13", GROUP, "Two Nodes for one claim: told as MultipleNodesFound, and survived", aks=True
)
async def two_nodes(trial: Trial) -> str:
    """Has AKS make one Node too many."""
    name = trial.name()
    await trial.control.inject("extra-node", pool=name)
    await trial.create(name)
    said = await trial.says(name, "MultipleNodesFound", "Registered")
    await trial.delete(name)
    await trial.is_gone(name)
    return f"Registered {said.status} MultipleNodesFound: {said.message[:100]}; deletion cleaned up"


@behaviour("14", GROUP, "A registered Node carries karpenter.sh/registered=true")
async def registered_label(trial: Trial) -> str:
    """Reads the label."""
    name = await trial.create()
    await trial.becomes(name)
    present = (await trial.node(name)).metadata.labels
    found = {key: present.get(key) for key in (labels.REGISTERED, labels.INITIALIZED)}
    require(set(found.values()) == {"true"}, f"the Node has {found}")
    return "registered and initialized are true"


@behaviour("48", GROUP, "A surge upgrade of the pool moves the claim to the new Node", aks=True)
async def upgrade(trial: Trial) -> str:
    """Upgrades the node image, as AKS's operator would."""
    name = await trial.create()
    await trial.becomes(name)
    before = (await trial.node(name)).metadata.name
    aks = trial.world.aks
    await aks.azure.agent_pools.begin_upgrade_node_image_version(*aks.scope, name)

    async def moved() -> bool:
        claim = await trial.claim(name)
        require(claim is not None and not claim.deleting, "the upgrade took the claim along")
        assert claim is not None
        nodes = [node.metadata.name for node in await trial.nodes(name)]
        return before not in nodes and nodes == [claim.status.node_name]

    await trial.until(moved, "the claim is bound to the new Node", 60)
    await trial.becomes(name)
    claim, node = await trial.claim(name), await trial.node(name)
    assert claim is not None
    require(claim.status.provider_id == node.spec.provider_id, "providerID is the old one's")
    return f"{before} became {node.metadata.name}; one claim throughout"
