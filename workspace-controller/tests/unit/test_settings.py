"""Settings: from flags and environment, all problems at once."""

from pathlib import Path

import pytest

from workspace_controller.manifests.claims import NodeClass
from workspace_controller.settings import BadSettings, load
from workspace_controller.workspaces.facts import Deadlines

NEEDED = {"PRESET_REGISTRY_NAME": "example.com/gpu", "SYSTEM_NAMESPACE": "kaito-workspace"}
NOWHERE = Path("/nonexistent/namespace")


def test_two_settings_suffice() -> None:
    settings = load((), NEEDED, NOWHERE)
    assert settings.claims == "auto"
    assert settings.leader_elect
    assert settings.webhook
    assert settings.runtime_image_tag == "0.1.0"
    assert settings.node_class == NodeClass("kaito.sh", "KaitoNodeClass", "default")


def test_all_problems_are_told_at_once_by_their_names() -> None:
    environment = {
        "PRESET_REGISTRY_NAME": "https://example.com/",
        "WEBHOOK_PORT": "0",
        "CLAIM_API": "pods",
        "FEATURE_GATES": "Warp=true",
        "MODEL_HUB_ENDPOINT": "hub",
        "WEBHOOK_URL": "http://x",
        "METRICS_BIND_ADDRESS": "8080",
        "LEADER_ELECT": "perhaps",
        "KUBE_CLIENT_QPS": "-1",
        "KUBE_CLIENT_BURST": "many",
        "NODE_LAUNCH_TIMEOUT": "a while",
        "NODE_CLASS_KIND": "OwnNodeClass",
    }
    with pytest.raises(BadSettings) as refused:
        load((), environment, NOWHERE)
    told = str(refused.value)
    for name in (*environment, "SYSTEM_NAMESPACE"):
        assert name in told
    assert "SYSTEM_NAMESPACE (--namespace): is required" in told
    assert "Karpenter, disableNodeAutoProvisioning" in told


def test_flags_win_over_the_environment() -> None:
    settings = load(("--workers", "3", "--leader-elect=false"), NEEDED | {"WORKERS": "7"}, NOWHERE)
    assert settings.workers == 3
    assert not settings.leader_elect


def test_a_bare_switch_is_on() -> None:
    assert load(("--webhook",), NEEDED | {"WEBHOOK_ENABLED": "false"}, NOWHERE).webhook


def test_a_pod_knows_its_namespace(tmp_path: Path) -> None:
    file = tmp_path / "namespace"
    file.write_text("from-the-pod\n")
    found = load((), {"PRESET_REGISTRY_NAME": "example.com/gpu"}, file)
    assert found.namespace == "from-the-pod"
    assert load((), NEEDED, file).namespace == "kaito-workspace"


@pytest.mark.parametrize(
    ("gates", "api", "claims"),
    [
        ("Karpenter=true", "auto", "nodeclaim"),
        ("Karpenter=false,", "auto", "auto"),
        ("disableNodeAutoProvisioning=True", "auto", "byo"),
        ("Karpenter=true", "machine", "machine"),
    ],
)
def test_gates_of_earlier_releases_count_where_nothing_newer_is_said(
    gates: str, api: str, claims: str
) -> None:
    assert load((), NEEDED | {"FEATURE_GATES": gates, "CLAIM_API": api}, NOWHERE).claims == claims


def test_the_node_class_is_the_clouds_own_where_nothing_is_said() -> None:
    settings = load((), NEEDED | {"CLOUD_PROVIDER": "aws", "NODE_CLASS_NAME": "gpu"}, NOWHERE)
    assert settings.node_class == NodeClass("karpenter.k8s.aws", "EC2NodeClass", "gpu")


@pytest.mark.parametrize(
    ("url", "names", "addresses"),
    [
        ("", 2, ()),
        ("https://192.0.2.1:9443/x", 2, ("192.0.2.1",)),
        ("https://host.example.com/x", 3, ()),
    ],
)
def test_the_certificate_names_where_it_is_called(
    url: str, names: int, addresses: tuple[str, ...]
) -> None:
    settings = load((), NEEDED | {"WEBHOOK_URL": url}, NOWHERE)
    dns, ips = settings.webhook_hosts
    assert "workspace.kaito-workspace.svc" in dns
    assert (len(dns), ips) == (names, addresses)


@pytest.mark.parametrize(
    ("kind", "group"),
    [
        ("AKSNodeClass", "karpenter.azure.com"),
        ("EC2NodeClass", "karpenter.k8s.aws"),
        ("KaitoNodeClass", "kaito.sh"),
    ],
)
def test_the_group_of_a_known_node_class_need_not_be_said(kind: str, group: str) -> None:
    settings = load((), NEEDED | {"NODE_CLASS_KIND": kind}, NOWHERE)
    assert settings.node_class == NodeClass(group, kind, "default")


def test_the_group_of_an_own_node_class_is_taken() -> None:
    own = {"NODE_CLASS_KIND": "OwnNodeClass", "NODE_CLASS_GROUP": "own.example.com"}
    node_class = load((), NEEDED | own, NOWHERE).node_class
    assert node_class == NodeClass("own.example.com", "OwnNodeClass", "default")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("2h", 7200)]
)
def test_spans_of_time_are_written_as_in_kubernetes(text: str, seconds: int) -> None:
    deadlines = load(("--node-join-timeout", text), NEEDED, NOWHERE).deadlines
    assert deadlines.join.total_seconds() == seconds
    assert deadlines.launch == Deadlines().launch


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(("--help",), {}, NOWHERE)
    assert ended.value.code == 0
    told = capsys.readouterr().out
    for name in ("PRESET_REGISTRY_NAME", "--claim-api", "--leader-elect", "Example"):
        assert name in told
