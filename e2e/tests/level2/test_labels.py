import pytest

from sandbox.nodes.kubelet.labels import divide


@pytest.mark.parametrize(
    "key",
    [
        "agentpool",
        "kaito.sh/workspace",
        "kubernetes.azure.com/mode",
        "node.kubernetes.io/instance-type",
        "pool.node.kubernetes.io/name",
        "topology.kubernetes.io/zone",
    ],
)
def test_a_kubelet_sets_this_label_itself(key: str) -> None:
    assert divide({key: "x"}).by_kubelet == {key: "x"}


@pytest.mark.parametrize(
    "key", ["node-role.kubernetes.io/gpu", "kubernetes.io/anything", "apps.k8s.io/x", "k8s.io/x"]
)
def test_the_cloud_sets_this_label(key: str) -> None:
    divided = divide({key: "x"})

    assert divided.by_cloud == {key: "x"}
    assert divided.by_kubelet == {}
