"""What pool a claim comes to, and what cannot be made; numbers are those of the conformance list."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from provisioner_world.builders import NAME, NOW, SIZE, claim

from gpu_provisioner.claims.claim import Requirement, Taint
from gpu_provisioner.claims.quantities import quantity
from gpu_provisioner.claims.shape import (
    Unservable,
    pool_for,
    resolved_labels,
    unknown_image_family,
)
from gpuapis.labels import (
    ARCH,
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


def requiring(*requirements: tuple[str, str, tuple[str, ...]], **changes: Any) -> Any:
    given = tuple(Requirement(*each) for each in requirements)
    return claim(requirements=(Requirement(INSTANCE_TYPE, "In", (SIZE,)), *given), **changes)


def test_a_usual_claim_comes_to_one_vm_with_its_labels_taints_and_tags() -> None:
    made = claim(created=datetime(2030, 1, 1, 9, 30, tzinfo=UTC), labels={WORKSPACE: "phi-3"})
    spec = pool_for(made, NOW)
    assert (spec.name, spec.vm_size, spec.count, spec.os_disk_gib) == (NAME, SIZE, 1, 120)
    assert spec.labels == {
        NODEPOOL: "kaito",
        PROVISIONER_NAME: "default",
        WORKSPACE: "phi-3",
        MACHINE_TYPE: "gpu",
        CREATION_TIMESTAMP: "2030-01-01T09-30-00Z",
    }
    assert spec.taints == ("sku=gpu:NoSchedule",)
    assert spec.tags == {
        "gpu-provisioner-claim": NAME,
        "gpu-provisioner-claim-uid": "uid-1",
        "gpu-provisioner-claim-kind": "Machine",
        "gpu-provisioner-created": "2030-01-01T12:00:00Z",
    }


def test_10_a_claim_s_label_overrides_a_default() -> None:
    assert pool_for(claim(labels={NODEPOOL: "mine"}), NOW).labels[NODEPOOL] == "mine"


def test_a_nodeclaim_gets_no_label_of_the_older_kind() -> None:
    assert PROVISIONER_NAME not in pool_for(claim(kind="NodeClaim"), NOW).labels


def test_labels_that_aks_sets_itself_are_not_asked_for() -> None:
    labels = {INSTANCE_TYPE: SIZE, ARCH: "amd64", ZONE: "eastus-1", "apps": "phi-3"}
    spec = pool_for(claim(labels=labels), NOW)
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
    assert pool_for(claim(requests=requests), NOW).os_disk_gib == gib


@pytest.mark.parametrize("storage", ["2049Gi", "-1Gi", "lots", "1 Gi", "1KiB"])
def test_an_impossible_disk_is_refused_by_name(storage: str) -> None:
    with pytest.raises(Unservable, match=r"spec\.resources\.requests\.storage"):
        pool_for(claim(requests={"storage": storage}), NOW)


@pytest.mark.parametrize("name", ["ws-1", "1ws", "abcdefghijklm", "Ws1", "ws.1"])
def test_5_a_name_that_no_pool_can_have_is_refused(name: str) -> None:
    with pytest.raises(Unservable, match="cannot name an agent pool"):
        pool_for(claim(name=name), NOW)


@pytest.mark.parametrize("operator", ["NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
def test_7_an_operator_that_leaves_a_choice_is_refused(operator: str) -> None:
    vague = claim(requirements=(Requirement(INSTANCE_TYPE, operator, (SIZE,)),))
    with pytest.raises(Unservable, match="operator In"):
        pool_for(vague, NOW)


def test_6_a_claim_without_an_instance_type_is_refused() -> None:
    with pytest.raises(Unservable, match=r"has no node\.kubernetes\.io/instance-type"):
        pool_for(claim(requirements=()), NOW)


@pytest.mark.parametrize("values", [(), ("",)])
def test_a_claim_that_names_no_size_is_refused(values: tuple[str, ...]) -> None:
    with pytest.raises(Unservable, match="leave no value"):
        pool_for(claim(requirements=(Requirement(INSTANCE_TYPE, "In", values),)), NOW)


def test_of_several_sizes_the_first_that_all_requirements_allow_is_taken() -> None:
    either = requiring((INSTANCE_TYPE, "In", ("Standard_NC6s_v3", SIZE)))
    assert pool_for(either, NOW).vm_size == SIZE
    first = claim(requirements=(Requirement(INSTANCE_TYPE, "In", ("Standard_B", "Standard_A")),))
    assert pool_for(first, NOW).vm_size == "Standard_B"


@pytest.mark.parametrize(("key", "value"), [(OS, "windows"), (ARCH, "arm64")])
def test_a_platform_that_is_not_served_is_refused(key: str, value: str) -> None:
    with pytest.raises(Unservable, match=f"ask for {key} in {value}"):
        pool_for(requiring((key, "In", (value,))), NOW)
    served = {OS: "linux", ARCH: "amd64"}[key]
    assert pool_for(requiring((key, "In", (value, served))), NOW).vm_size == SIZE


def test_contradicting_requirements_are_refused() -> None:
    with pytest.raises(Unservable, match="in nothing"):
        pool_for(requiring((OS, "In", ("linux",)), (OS, "In", ("windows",))), NOW)


def test_a_zone_is_asked_for_by_its_number() -> None:
    assert pool_for(requiring((ZONE, "In", ("eastus-1", "eastus-3"))), NOW).zones == ("1", "3")
    assert pool_for(requiring(), NOW).zones == ()


@pytest.mark.parametrize(
    ("values", "spot"), [(("spot",), True), (("spot", "on-demand"), False), (("on-demand",), False)]
)
def test_spot_is_taken_only_when_nothing_else_is_allowed(
    values: tuple[str, ...], spot: bool
) -> None:
    assert pool_for(requiring((CAPACITY_TYPE, "In", values)), NOW).spot is spot


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
    assert pool_for(asking, NOW).os_sku == os_sku
    assert unknown_image_family(asking) is unknown


def test_a_taint_without_a_value_is_written_without_one() -> None:
    taints = (Taint("sku", "gpu", "NoSchedule"), Taint("dedicated", "", "NoExecute"))
    spec = pool_for(claim(taints=taints, startup_taints=(Taint("x", "", "NoSchedule"),)), NOW)
    assert spec.taints == ("sku=gpu:NoSchedule", "dedicated:NoExecute")


def test_the_subnets_of_the_cluster_are_shared() -> None:
    spec = pool_for(claim(), NOW, ("/subnet/nodes", "/subnet/pods"))
    assert (spec.subnet, spec.pod_subnet) == ("/subnet/nodes", "/subnet/pods")


@pytest.mark.parametrize(
    ("size", "kind"),
    [("Standard_NC6", "gpu"), ("standard_nd96asr_v4", "gpu"), ("Standard_D4s_v5", "cpu")],
)
def test_the_machine_type_follows_from_the_size(size: str, kind: str) -> None:
    asking = claim(requirements=(Requirement(INSTANCE_TYPE, "In", (size,)),))
    assert pool_for(asking, NOW).labels[MACHINE_TYPE] == kind


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
    spec = pool_for(claim(created=None), NOW)
    assert spec.labels[CREATION_TIMESTAMP] == "1970-01-01T00-00-00Z"


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1k", 1_000), ("1Ki", 1_024), (".5Gi", 2**29), ("100m", 0.1), (7, 7), ("+3", 3)],
)
def test_quantities_are_read_exactly(text: str | int, value: float) -> None:
    assert float(quantity(text)) == value
