"""The chart and the program agree: every variable exists, every value is used, the lease is one."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gpu_provisioner.settings import Settings
from sandbox import tools

CHART = Path(__file__).resolve().parents[3] / "charts" / "gpu-provisioner"
IMAGE = ("--set", "controller.image.repository=registry.example.com/gpu-provisioner")
PEM = "-----BEGIN CERTIFICATE-----"


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (str(tools.binaries() / "helm"), *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False)


def rendered(*sets: str) -> dict[tuple[str, str], dict[str, Any]]:
    shown = helm("template", "gpu-provisioner", str(CHART), "-n", "gpu-provisioner", *IMAGE, *sets)
    assert shown.returncode == 0, shown.stderr
    assert "warning" not in shown.stderr
    documents = [each for each in yaml.safe_load_all(shown.stdout) if each]
    objects = {(each["kind"], each["metadata"]["name"]): each for each in documents}
    assert len(objects) == len(documents), "the chart makes an object twice"
    return objects


def pod_of(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    template: dict[str, Any] = objects["Deployment", "gpu-provisioner"]["spec"]["template"]
    return template


def environment(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, str]:
    container = pod_of(objects)["spec"]["containers"][0]
    return {each["name"]: each.get("value", "") for each in container["env"]}


def test_the_chart_passes_helm_s_own_check() -> None:
    assert helm("lint", "--strict", str(CHART), *IMAGE).returncode == 0


def test_a_missing_image_is_told_with_the_remedy() -> None:
    shown = helm("template", "x", str(CHART))
    assert shown.returncode != 0
    assert "--set controller.image.repository=" in shown.stderr


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("settings.claimApi=machines", "claimApi"),
        ("settings.launchTimeout=5", "launchTimeout"),
        ("replicas=-1", "replicas"),
        ("caBundle=/etc/ca.pem", "caBundle"),
        ("deploymentMode=cloud", "deploymentMode"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_by_name(value: str, told: str) -> None:
    shown = helm("template", "x", str(CHART), *IMAGE, "--set", value)
    assert shown.returncode != 0
    assert told in shown.stderr


def test_every_variable_that_the_chart_sets_is_read_by_the_program() -> None:
    given = ("--set", "workloadIdentity.projectToken=true", "--set-string", f"caBundle={PEM}")
    names = environment(rendered(*given))
    known = {str(field.alias) for field in Settings.model_fields.values()}
    assert set(names) - known == {"SSL_CERT_FILE"}  # read by the TLS library


def test_the_lease_has_one_name_in_code_and_role() -> None:
    objects = rendered()
    name = environment(objects)["LEADER_ELECTION_NAME"]
    rules = objects["Role", "gpu-provisioner"]["rules"]
    assert name == Settings.model_fields["lease_name"].default
    assert any(rule.get("resourceNames") == [name] for rule in rules)


def test_controller_env_wins_as_list_and_as_map_and_empty_entries_do_not_count() -> None:
    as_list = rendered(
        *("--set", "controller.env[0].name=LOG_LEVEL"),
        *("--set", "controller.env[0].value=debug"),
        *("--set", "controller.env[1].name=ARM_ENDPOINT"),
        *("--set", "controller.env[1].value="),
    )
    assert environment(as_list)["LOG_LEVEL"] == "debug"
    assert "ARM_ENDPOINT" not in environment(as_list)
    as_map = rendered("--set", "controller.env.METRICS_PORT=9090")
    assert environment(as_map)["METRICS_PORT"] == "9090"
    secret = '[{"name":"AZURE_CLIENT_ID","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}]'
    from_secret = rendered("--set-json", f"controller.env={secret}")
    variables = pod_of(from_secret)["spec"]["containers"][0]["env"]
    assert variables[-1]["valueFrom"]["secretKeyRef"]["name"] == "s"


def test_workload_identity_comes_from_the_webhook_or_by_a_projected_token() -> None:
    webhook = rendered("--set", "workloadIdentity.clientId=c")
    assert pod_of(webhook)["metadata"]["labels"]["azure.workload.identity/use"] == "true"
    account = webhook["ServiceAccount", "gpu-provisioner"]
    assert account["metadata"]["annotations"]["azure.workload.identity/client-id"] == "c"
    assert "AZURE_FEDERATED_TOKEN_FILE" not in environment(webhook)

    own = rendered(
        *("--set", "workloadIdentity.clientId=c", "--set", "workloadIdentity.tenantId=t"),
        *("--set", "workloadIdentity.projectToken=true"),
    )
    assert "azure.workload.identity/use" not in pod_of(own)["metadata"]["labels"]
    variables = environment(own)
    assert (variables["AZURE_CLIENT_ID"], variables["AZURE_TENANT_ID"]) == ("c", "t")
    mount = pod_of(own)["spec"]["containers"][0]["volumeMounts"][0]["mountPath"]
    assert variables["AZURE_FEDERATED_TOKEN_FILE"].startswith(mount)
    token = pod_of(own)["spec"]["volumes"][0]["projected"]["sources"][0]["serviceAccountToken"]
    assert token["audience"] == "api://AzureADTokenExchange"


def test_the_pod_meets_the_restricted_pod_security_standard() -> None:
    spec = pod_of(rendered())["spec"]
    container = spec["containers"][0]["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["allowPrivilegeEscalation"] is False
    assert container["capabilities"] == {"drop": ["ALL"]}
    assert "hostNetwork" not in spec


def test_replicas_may_be_none_and_extras_come_only_on_request() -> None:
    bare = rendered("--set", "replicas=0")
    assert bare["Deployment", "gpu-provisioner"]["spec"]["replicas"] == 0
    assert not {"PodDisruptionBudget", "ServiceMonitor", "ConfigMap"} & {kind for kind, _ in bare}
    full = rendered(
        *("--set", "podDisruptionBudget.enabled=true", "--set", "serviceMonitor.enabled=true"),
        *("--set-string", f"caBundle={PEM}"),
    )
    assert {"PodDisruptionBudget", "ServiceMonitor", "ConfigMap"} <= {kind for kind, _ in full}


def test_no_value_is_without_a_template() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    templates = "".join(path.read_text() for path in CHART.glob("templates/**/*") if path.is_file())

    def used(path: str) -> bool:
        # `with .Values.a.b` uses the whole of it.
        parts = path.split(".")
        return any(
            re.search(rf"\.Values\.{re.escape('.'.join(parts[:depth]))}\b", templates)
            for depth in range(1, len(parts) + 1)
        )

    assert [name for name in values if not used(name)] == []
