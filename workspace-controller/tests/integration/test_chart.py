"""The chart: what it asks for, and that what it sets is what the controller reads."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from sandbox import tools
from workspace_controller.manifests.training_config import TEMPLATES, output_folder
from workspace_controller.rules.training_config import KEY
from workspace_controller.settings import Settings, load

CHART = Path(__file__).resolve().parents[3] / "charts/workspace"
NEEDED = {"image.repository": "example.com/workspace", "presetRegistryName": "example.com/gpu"}


def helm(**values: str) -> subprocess.CompletedProcess[str]:
    sets = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    command = [str(tools.binaries() / "helm"), "template", "workspace", str(CHART), *sets]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(**values: str) -> list[dict[str, Any]]:
    done = helm(**NEEDED | values)
    assert done.returncode == 0, done.stderr
    return [each for each in yaml.safe_load_all(done.stdout) if each]


def of_kind(manifests: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] == kind]


def environment(**values: str) -> dict[str, str]:
    """The variables of the controller's container."""
    (found,) = of_kind(rendered(**values), "Deployment")
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "a-namespace") for each in container["env"]}


@pytest.mark.parametrize("missing", NEEDED)
def test_what_only_you_know_is_asked_for_by_name(missing: str) -> None:
    done = helm(**{name: value for name, value in NEEDED.items() if name != missing})
    assert done.returncode != 0
    assert f"{missing} is not set" in done.stderr


@pytest.mark.parametrize(
    "values",
    [
        {"nodeProvisioner.claimApi": "sometimes"},
        {"featureGates.Warp": "true"},
        {"workers": "0"},
        {"allowPrivateDataUrls": "perhaps"},
        {"kubeClient.qps": "-1"},
        {"nodeProvisioner.deadlines.join": "soon"},
        {"nodeProvisioner.deadlines.lunch": "20m"},
        {"webhook.url": "http://x"},
        {"cloudProviderName": "moon"},
    ],
)
def test_a_value_that_cannot_be_used_is_refused(values: dict[str, str]) -> None:
    assert helm(**NEEDED | values).returncode != 0


def test_the_controller_reads_every_variable_that_the_chart_sets() -> None:
    everything = {
        "modelHub.endpoint": "http://hub.example.com",
        "allowPrivateDataUrls": "true",
        "webhook.url": "https://192.0.2.1:9443/validate/workspace.kaito.sh",
        "nodeProvisioner.nodeClass.group": "g.example.com",
        "nodeProvisioner.nodeClass.kind": "K",
        "nodeProvisioner.nodeClass.name": "n",
    }
    given = environment(**everything)
    known = {
        part.env
        for field in Settings.model_fields.values()
        for part in field.metadata
        if hasattr(part, "env")
    }
    assert set(given) <= known
    settings = load((), given, Path("/nonexistent"))
    assert settings.hub == "http://hub.example.com"
    assert settings.private_data_urls
    assert settings.node_class.name == "n"
    assert settings.webhook_hosts[1] == ("192.0.2.1",)


def test_the_defaults_of_chart_and_controller_agree() -> None:
    needed = {"PRESET_REGISTRY_NAME": "example.com/gpu", "SYSTEM_NAMESPACE": "a-namespace"}
    bare = load((), needed, Path("/nonexistent"))
    charted = load((), environment(), Path("/nonexistent"))
    differing = {"log_format": "json", "feature_gates": {"Karpenter": False}}
    assert charted == bare.model_copy(update=differing)


def test_without_the_webhook_nothing_of_it_is_left() -> None:
    manifests = rendered(**{"webhook.enabled": "false"})
    assert of_kind(manifests, "ValidatingWebhookConfiguration") == []
    assert of_kind(manifests, "Secret") == []
    assert "validatingwebhookconfigurations" not in yaml.safe_dump(manifests)


def test_the_definition_of_workspaces_outlives_the_release() -> None:
    (definition,) = of_kind(rendered(), "CustomResourceDefinition")
    assert definition["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert of_kind(rendered(**{"crds.install": "false"}), "CustomResourceDefinition") == []


def test_no_role_may_do_everything() -> None:
    rules = [
        rule
        for kind in ("ClusterRole", "Role")
        for role in of_kind(rendered(), kind)
        for rule in role["rules"]
    ]
    for rule in rules:
        assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


def test_of_secrets_only_the_webhooks_may_be_read_and_it_may_be_made_anew() -> None:
    manifests = rendered()
    for role in of_kind(manifests, "ClusterRole"):
        assert not any("secrets" in rule["resources"] for rule in role["rules"])
    (role,) = of_kind(manifests, "Role")
    creating, tending = [rule for rule in role["rules"] if "secrets" in rule["resources"]]
    assert creating == {"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}
    assert (tending["resourceNames"], tending["verbs"]) == (
        ["workspace-webhook-cert"],
        ["get", "patch"],
    )


@pytest.mark.parametrize("method", ["lora", "qlora"])
def test_the_default_training_configuration_is_one_that_the_controller_takes(method: str) -> None:
    templates = {each["metadata"]["name"]: each for each in of_kind(rendered(), "ConfigMap")}
    text = templates[TEMPLATES[method]]["data"][KEY]
    assert output_folder(text, method) == "/mnt/results"
    arguments = yaml.safe_load(text)["training_config"]["TrainingArguments"]
    assert arguments["save_strategy"] == "epoch"
