"""What looks lost: pools without claims, claims without pools or nodes, nodes without either."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from provisioner_world.builders import NAME, NOW, claim, node, pool

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs, kind_served, made_at, owned, shared
from gpu_provisioner.collector.suspects import (
    LeakedPool,
    LostNode,
    OrphanNode,
    Suspect,
    Tenant,
    VanishedPool,
    suspects,
)
from gpuapis.labels import (
    ASSIGNED_POOL,
    CREATION_LAYOUT,
    CREATION_TIMESTAMP,
    NODEPOOL,
    PROVISIONER_NAME,
    WORKSPACE,
)

REGISTERED = ("Launched", "Registered")
OLDER = {WORKSPACE: "phi-3", PROVISIONER_NAME: "default"}


def named(**changes: Any) -> frozenset[Suspect]:
    usual: dict[str, Any] = {"pools": (), "claims": (), "tenants": (), "nodes": (), "now": NOW}
    return suspects(**usual | changes)


def leaked(made: Pool) -> frozenset[Suspect]:
    return frozenset({LeakedPool(NAME, made_at(made))})


def test_35_a_pool_of_ours_without_a_claim_is_suspect() -> None:
    assert named(pools=(pool(),)) == leaked(pool())


def test_35_a_pool_is_left_alone_for_its_first_30_seconds() -> None:
    young = {**pool().tags, "gpu-provisioner-created": (NOW - timedelta(seconds=29)).isoformat()}
    assert not named(pools=(pool(tags=young),))


def test_a_pool_whose_claim_exists_is_not_suspect_whatever_the_claim_looks_like() -> None:
    assert not named(pools=(pool(),), tenants=(Tenant("uid-1", NAME),))


def test_a_pool_of_an_earlier_claim_of_the_name_is_suspect() -> None:
    assert named(pools=(pool(),), tenants=(Tenant("uid-2", NAME),)) == leaked(pool())


def test_a_pool_that_is_going_needs_no_help() -> None:
    assert not named(pools=(pool("Deleting"),))


def test_36_a_system_pool_and_an_unmarked_one_are_never_suspect() -> None:
    unmarked = pool(tags={}, labels={"team": "a"})
    half = pool(tags={}, labels={WORKSPACE: "x"})
    other_half = pool(tags={}, labels={NODEPOOL: "kaito"})
    copied = replace(pool(labels={}), name="copy")
    for each in (pool(system=True), unmarked, half, other_half, copied):
        assert not owned(each)
        assert not named(pools=(each,))


def test_a_pool_of_an_older_release_is_ours_by_its_labels() -> None:
    old = pool(tags={}, labels=OLDER)
    assert owned(old)
    assert belongs(old, claim(uid="any"))
    assert not shared(old)
    assert kind_served(old) == "Machine"
    assert kind_served(pool(tags={}, labels={NODEPOOL: "kaito"})) == "NodeClaim"
    assert named(pools=(old,)) == frozenset({LeakedPool(NAME, None)})
    assert not named(pools=(old,), tenants=(Tenant("any", NAME),))


def test_35_a_young_pool_of_an_older_release_is_left_alone_too() -> None:
    young = {**OLDER, CREATION_TIMESTAMP: (NOW - timedelta(seconds=29)).strftime(CREATION_LAYOUT)}
    assert not named(pools=(pool(tags={}, labels=young),))
    aged = {**OLDER, CREATION_TIMESTAMP: (NOW - timedelta(seconds=31)).strftime(CREATION_LAYOUT)}
    assert named(pools=(pool(tags={}, labels=aged),))


def test_34_a_claim_whose_pool_is_gone_is_suspect() -> None:
    assert named(claims=(claim(*REGISTERED),)) == frozenset({VanishedPool(NAME, NAME, "uid-1")})


def test_a_claim_that_is_on_its_way_in_or_out_is_not() -> None:
    assert not named(claims=(claim(), claim(*REGISTERED, deleting=NOW)))


def test_a_claim_whose_healthy_pool_has_no_node_is_suspect() -> None:
    usual: dict[str, Any] = {"tenants": (Tenant("uid-1", NAME),), "claims": (claim(*REGISTERED),)}
    assert named(pools=(pool(),), **usual) == frozenset({LostNode(NAME, NAME, "uid-1")})
    assert not named(pools=(pool(),), nodes=(node(),), **usual)
    assert not named(pools=(pool(running=False),), **usual)
    assert not named(pools=(pool("InProgress", phase="Upgrading"),), **usual)
    usual["claims"] = (claim("Launched"),)
    assert not named(pools=(pool(),), **usual)


def test_a_node_that_we_hold_without_claim_and_pool_is_suspect() -> None:
    orphan = frozenset({OrphanNode("node-1", "node-1-uid")})
    assert named(nodes=(node(),)) == orphan
    assert named(nodes=(node(),), pools=(pool("Deleting"),)) == orphan
    assert OrphanNode("node-1", "node-1-uid") not in named(nodes=(node(),), pools=(pool(),))
    assert not named(nodes=(node(registered=False),))
    assert not named(nodes=(node(),), tenants=(Tenant("uid-1", NAME),))


def test_a_pool_with_any_claim_in_it_is_not_suspect_whatever_its_first_claims_became() -> None:
    made = pool(shared=True)
    assert named(pools=(made,)) == leaked(made)
    assert not named(pools=(made,), tenants=(Tenant("some", NAME),))


def test_an_empty_pool_is_told_as_such() -> None:
    made = pool(shared=True, count=0)
    assert named(pools=(made,)) == frozenset({LeakedPool(NAME, made_at(made), empty=True)})


def test_a_claim_whose_node_went_while_others_stay_in_its_pool_is_suspect() -> None:
    here = claim(*REGISTERED, labels={ASSIGNED_POOL: NAME})
    usual: dict[str, Any] = {"pools": (pool(shared=True),), "tenants": (Tenant("uid-1", NAME),)}
    other = node("node-2", owner="uid-2")
    lost = frozenset({LostNode(NAME, NAME, "uid-1")})
    assert named(claims=(here,), nodes=(other,), **usual) == lost
    assert not named(claims=(here,), nodes=(other, node("node-3")), **usual)


def test_a_leaving_node_without_a_claim_in_a_pool_that_stays_is_suspect() -> None:
    usual: dict[str, Any] = {"pools": (pool(shared=True),), "tenants": (Tenant("uid-2", NAME),)}
    orphan = frozenset({OrphanNode("node-1", "node-1-uid")})
    assert named(nodes=(node(deleting=5),), **usual) == orphan
    assert not named(nodes=(node(deleting=5, owner="uid-2"),), **usual)
    assert not named(nodes=(node(),), **usual)
