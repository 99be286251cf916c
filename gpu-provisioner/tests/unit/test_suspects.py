"""What looks lost: pools without claims, claims without pools or nodes, nodes without either."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from provisioner_world.builders import NAME, NOW, claim, node, pool

from gpu_provisioner.azure.pools import Pool
from gpu_provisioner.binding import belongs, kind_served, made_at, owned
from gpu_provisioner.collector.suspects import (
    LeakedPool,
    LostNode,
    OrphanNode,
    Suspect,
    VanishedPool,
    suspects,
)
from gpuapis.labels import NODEPOOL, PROVISIONER_NAME, WORKSPACE

REGISTERED = ("Launched", "Registered")
OLDER = {WORKSPACE: "phi-3", PROVISIONER_NAME: "default"}


def named(**changes: Any) -> frozenset[Suspect]:
    usual: dict[str, Any] = {"pools": (), "claims": (), "uids": {}, "nodes": (), "now": NOW}
    return suspects(**usual | changes)


def leaked(made: Pool) -> frozenset[Suspect]:
    return frozenset({LeakedPool(NAME, made_at(made))})


def test_35_a_pool_of_ours_without_a_claim_is_suspect() -> None:
    assert named(pools=(pool(),)) == leaked(pool())


def test_35_a_pool_is_left_alone_for_its_first_30_seconds() -> None:
    young = {**pool().tags, "gpu-provisioner-created": (NOW - timedelta(seconds=29)).isoformat()}
    assert not named(pools=(pool(tags=young),))


def test_a_pool_whose_claim_exists_is_not_suspect_whatever_the_claim_looks_like() -> None:
    assert not named(pools=(pool(),), uids={NAME: frozenset({"uid-1"})})


def test_a_pool_of_an_earlier_claim_of_the_name_is_suspect() -> None:
    assert named(pools=(pool(),), uids={NAME: frozenset({"uid-2"})}) == leaked(pool())


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
    assert kind_served(old) == "Machine"
    assert kind_served(pool(tags={}, labels={NODEPOOL: "kaito"})) == "NodeClaim"
    assert named(pools=(old,)) == frozenset({LeakedPool(NAME, None)})
    assert not named(pools=(old,), uids={NAME: frozenset({"any"})})


def test_34_a_claim_whose_pool_is_gone_is_suspect() -> None:
    assert named(claims=(claim(*REGISTERED),)) == frozenset({VanishedPool(NAME, "uid-1")})


def test_a_claim_that_is_on_its_way_in_or_out_is_not() -> None:
    assert not named(claims=(claim(), claim(*REGISTERED, deleting=NOW)))


def test_a_claim_whose_healthy_pool_has_no_node_is_suspect() -> None:
    usual: dict[str, Any] = {"uids": {NAME: frozenset({"uid-1"})}, "claims": (claim(*REGISTERED),)}
    assert named(pools=(pool(),), **usual) == frozenset({LostNode(NAME, "uid-1")})
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
    assert not named(nodes=(node(),), uids={NAME: frozenset({"uid-1"})})
