"""What pool a claim comes to, and what cannot be made; numbers are those of the conformance list."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from provisioner_world.builders import NAME, NOW, SIZE, claim

from gpu_provisioner.azure.pools import Shape
from gpu_provisioner.binding import pool_spec
from gpu_provisioner.claims.claim import Claim, Requirement, Taint
from gpu_provisioner.claims.quantities import quantity
from gpu_provisioner.claims.shape import (
    Unservable,
    resolved_labels,
    shape_for,
    unknown_image_family,
)
from gpuapis.labels import (
    ARCH,
    ASSIGNED_POOL,
    CAPACITY_TYPE,
    CREATION_TIMESTAMP,
    INSTANCE_TYPE,
    MACHINE_TYPE,
    NODE_IMAGE_FAMILY,
    NODEPOOL,
    OS,
    PROVISIONER_NAME,
    WORKSPACE,
    ZONE,
)


def dedicated(made: Claim, subnets: tuple[str, str] = ("", "")) -> Shape:
    return shape_for(made, "dedicated", subnets)


def shared(made: Claim) -> Shape:
    return shape_for(made, "shared")


def requiring(*requirements: tuple[str, str, tuple[str, ...]], **changes: Any) -> Any:
    given = tuple(Requirement(*each) for each in requirements)
    return claim(requirements=(Requirement(INSTANCE_TYPE, "In", (SIZE,)), *given), **changes)


def test_a_usual_claim_comes_to_one_vm_with_its_labels_taints_and_tags() -> None:
    made = claim(created=datetime(2030, 1, 1, 9, 30, tzinfo=UTC), labels={WORKSPACE: "phi-3"})
    spec = pool_spec(NAME, dedicated(made), 1, NOW)
    shape = spec.shape
    assert (spec.name, shape.vm_size, spec.count, shape.os_disk_gib) == (NAME, SIZE, 1, 120)
    assert shape.labels == {
        NODEPOOL: "kaito",
        PROVISIONER_NAME: "default",
        WORKSPACE: "phi-3",
        MACHINE_TYPE: "gpu",
        CREATION_TIMESTAMP: "2030-01-01T09-30-00Z",
    }
    assert shape.taints == ("sku=gpu:NoSchedule",)
    assert spec.tags == {
        "gpu-provisioner-pool": NAME,
        "gpu-provisioner-shape": shape.key,
        "gpu-provisioner-claim": NAME,
        "gpu-provisioner-claim-uid": "uid-1",
        "gpu-provisioner-claim-kind": "Machine",
        "gpu-provisioner-created": "2030-01-01T12:00:00Z",
    }


def test_10_a_claim_s_label_overrides_a_default() -> None:
    assert dedicated(claim(labels={NODEPOOL: "mine"})).labels[NODEPOOL] == "mine"


def test_a_nodeclaim_gets_no_label_of_the_older_kind() -> None:
    assert PROVISIONER_NAME not in dedicated(claim(kind="NodeClaim")).labels


def test_labels_that_aks_sets_itself_are_not_asked_for() -> None:
    labels = {INSTANCE_TYPE: SIZE, ARCH: "amd64", ZONE: "eastus-1", "apps": "phi-3"}
    spec = dedicated(claim(labels=labels))
    assert not {INSTANCE_TYPE, ARCH, ZONE} & set(spec.labels)
    assert spec.labels["apps"] == "phi-3"


@pytest.mark.parametrize(
    ("storage", "gib"),
    [
        ("120Gi", 120),
        ("1500M", 2),
        ("1", 1),
        ("0", None),
        (0, None),
        (None, None),
        ("2Ti", 2048),
        ("50G", 47),
        ("1.5Gi", 2),
        ("2e9", 2),
    ],
)
def test_8_storage_is_rounded_up_to_whole_gib(storage: str | int | None, gib: int | None) -> None:
    requests = {} if storage is None else {"storage": storage}
    assert dedicated(claim(requests=requests)).os_disk_gib == gib


@pytest.mark.parametrize("storage", ["2049Gi", "-1Gi", "lots", "1 Gi", "1KiB"])
def test_an_impossible_disk_is_refused_by_name(storage: str) -> None:
    with pytest.raises(Unservable, match=r"spec\.resources\.requests\.storage"):
        dedicated(claim(requests={"storage": storage}))


@pytest.mark.parametrize("name", ["ws-1", "1ws", "abcdefghijklm", "Ws1", "ws.1"])
def test_5_a_name_that_no_pool_can_have_is_refused(name: str) -> None:
    with pytest.raises(Unservable, match="cannot name an agent pool"):
        dedicated(claim(name=name))


@pytest.mark.parametrize("operator", ["NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
def test_7_an_operator_that_leaves_a_choice_is_refused(operator: str) -> None:
    vague = claim(requirements=(Requirement(INSTANCE_TYPE, operator, (SIZE,)),))
    with pytest.raises(Unservable, match="operator In"):
        dedicated(vague)


def test_6_a_claim_without_an_instance_type_is_refused() -> None:
    with pytest.raises(Unservable, match=r"has no node\.kubernetes\.io/instance-type"):
        dedicated(claim(requirements=()))


@pytest.mark.parametrize("values", [(), ("",)])
def test_a_claim_that_names_no_size_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(Unservable, match="leave no value"):
        dedicated(claim(requirements=(Requirement(INSTANCE_TYPE, "In", values),)))


def test_of_several_sizes_the_first_that_all_requirements_allow_is_taken() -> None:
    either = requiring((INSTANCE_TYPE, "In", ("Standard_NC6s_v3", SIZE)))
    assert dedicated(either).vm_size == SIZE
    first = claim(requirements=(Requirement(INSTANCE_TYPE, "In", ("Standard_B", "Standard_A")),))
    assert dedicated(first).vm_size == "Standard_B"


@pytest.mark.parametrize(("key", "value"), [(OS, "windows"), (ARCH, "arm64")])
def test_a_platform_that_is_not_served_is_refused(key: str, value: str) -> None:
    with pytest.raises(Unservable, match=f"ask for {key} in {value}"):
        dedicated(requiring((key, "In", (value,))))
    served = {OS: "linux", ARCH: "amd64"}[key]
    assert dedicated(requiring((key, "In", (value, served)))).vm_size == SIZE


def test_contradicting_requirements_are_refused() -> None:
    with pytest.raises(Unservable, match="in nothing"):
        dedicated(requiring((OS, "In", ("linux",)), (OS, "In", ("windows",))))


def test_a_zone_is_asked_for_by_its_number() -> None:
    assert dedicated(requiring((ZONE, "In", ("eastus-1", "eastus-3")))).zones == ("1", "3")
    assert dedicated(requiring()).zones == ()


@pytest.mark.parametrize(
    ("values", "spot"), [(("spot",), True), (("spot", "on-demand"), False), (("on-demand",), False)]
)
def test_spot_is_taken_only_when_nothing_else_is_allowed(
    values: tuple[str, ...], spot: bool
) -> None:
    assert dedicated(requiring((CAPACITY_TYPE, "In", values))).spot is spot


@pytest.mark.parametrize(
    ("family", "os_sku", "unknown"),
    [
        (None, "Ubuntu", False),
        ("ubuntu", "Ubuntu", False),
        ("AzureLinux", "AzureLinux", False),
        ("Mariner", "Ubuntu", True),
    ],
)
def test_the_image_family_comes_by_annotation(
    family: str | None, os_sku: str, unknown: bool
) -> None:
    asking = claim(annotations={} if family is None else {NODE_IMAGE_FAMILY: family})
    assert dedicated(asking).os_sku == os_sku
    assert unknown_image_family(asking) is unknown


def test_a_taint_without_a_value_is_written_without_one() -> None:
    taints = (Taint("sku", "gpu", "NoSchedule"), Taint("dedicated", "", "NoExecute"))
    spec = dedicated(claim(taints=taints, startup_taints=(Taint("x", "", "NoSchedule"),)))
    assert spec.taints == ("dedicated:NoExecute", "sku=gpu:NoSchedule")


def test_the_subnets_of_the_cluster_are_shared() -> None:
    spec = dedicated(claim(), ("/subnet/nodes", "/subnet/pods"))
    assert (spec.subnet, spec.pod_subnet) == ("/subnet/nodes", "/subnet/pods")


@pytest.mark.parametrize(
    ("size", "kind"),
    [("Standard_NC6", "gpu"), ("standard_nd96asr_v4", "gpu"), ("Standard_D4s_v5", "cpu")],
)
def test_the_machine_type_follows_from_the_size(size: str, kind: str) -> None:
    asking = claim(requirements=(Requirement(INSTANCE_TYPE, "In", (size,)),))
    assert dedicated(asking).labels[MACHINE_TYPE] == kind


def test_settled_labels_are_added_and_never_overwritten() -> None:
    asking = requiring(
        (OS, "In", ("linux",)), ("team", "In", ("a", "b")), ("gone", "NotIn", ("x",))
    )
    asking = replace(asking, labels={OS: "already"})
    assert resolved_labels(asking) == {INSTANCE_TYPE: SIZE, CAPACITY_TYPE: "on-demand"}
    several = claim(requirements=(Requirement(INSTANCE_TYPE, "In", ("A", "B")),))
    assert resolved_labels(several)[INSTANCE_TYPE] == "A"
    assert INSTANCE_TYPE not in resolved_labels(claim(requirements=()))


def test_a_claim_without_an_age_still_makes_a_label_that_is_valid() -> None:
    spec = dedicated(claim(created=None))
    assert spec.labels[CREATION_TIMESTAMP] == "1970-01-01T00-00-00Z"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1k", 1_000), ("1Ki", 1_024), (".5Gi", 2**29), ("100m", 0.1), (7, 7), ("+3", 3)],
)
def test_quantities_are_read_exactly(text: str | int, value: float) -> None:
    assert float(quantity(text)) == value


def test_claims_that_ask_for_the_same_share_a_shape_whatever_else_they_carry() -> None:
    one = claim(name="a-name-that-no-pool-can-have", uid="1", labels={WORKSPACE: "a", "x": "y"})
    other = claim(uid="2", labels={WORKSPACE: "b", ASSIGNED_POOL: "gp1"}, annotations={"n": "o"})
    assert shared(one) == shared(other)
    assert shared(one).key == shared(other).key
    assert shared(one).labels == {
        NODEPOOL: "kaito",
        PROVISIONER_NAME: "default",
        MACHINE_TYPE: "gpu",
    }
    assert dedicated(claim(uid="1")).key != dedicated(claim(uid="2")).key


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "NodeClaim"},
        {"requirements": (Requirement(INSTANCE_TYPE, "In", ("Standard_NC6s_v3",)),)},
        {"requests": {"storage": "121Gi"}},
        {"taints": (Taint("other", "", "NoSchedule"),)},
        {"labels": {NODEPOOL: "mine"}},
        {"annotations": {NODE_IMAGE_FAMILY: "azurelinux"}},
    ],
)
def test_what_a_pool_cannot_have_twice_makes_another_shape(change: dict[str, Any]) -> None:
    assert shared(claim(**change)).key != shared(claim()).key


def test_zone_and_capacity_type_make_another_shape() -> None:
    keys = {
        shared(requiring()).key,
        shared(requiring((ZONE, "In", ("eastus-1",)))).key,
        shared(requiring((ZONE, "In", ("eastus-2",)))).key,
        shared(requiring((CAPACITY_TYPE, "In", ("spot",)))).key,
    }
    assert len(keys) == 4


def test_the_key_of_a_shape_is_the_same_in_every_process_and_order() -> None:
    swapped = shared(claim(taints=(Taint("b", "", "NoSchedule"), Taint("a", "", "NoSchedule"))))
    straight = shared(claim(taints=(Taint("a", "", "NoSchedule"), Taint("b", "", "NoSchedule"))))
    assert swapped.key == straight.key
    assert Shape("Standard_NC6").key == "6304c56366a30859"
