"""What the environment may say, and how it is told what is wrong."""

import subprocess
import sys
from datetime import timedelta

import pytest

from gpu_provisioner.settings import Settings, SettingsError, explain, load

GOOD = {
    "ARM_SUBSCRIPTION_ID": "sub",
    "ARM_RESOURCE_GROUP": "group",
    "AZURE_CLUSTER_NAME": " cluster ",
    "AZURE_TENANT_ID": "tenant",
    "AZURE_CLIENT_ID": "client",
    "AZURE_FEDERATED_TOKEN_FILE": "/token",
}


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for field in Settings.model_fields.values():
        monkeypatch.delenv(str(field.alias), raising=False)
    for name, value in GOOD.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_the_usual_environment_is_enough_and_is_trimmed(given: pytest.MonkeyPatch) -> None:
    settings = load()
    assert settings.cluster_name == "cluster"
    assert settings.claim_api == "auto"
    assert settings.leader_elect
    assert settings.registration_timeout == timedelta(minutes=15)
    assert (settings.metrics_port, settings.health_port) == (8080, 8081)
    assert settings.lease_namespace == "gpu-provisioner"


def test_all_problems_are_told_at_once_each_with_name_value_and_remedy(
    given: pytest.MonkeyPatch,
) -> None:
    given.delenv("AZURE_CLUSTER_NAME")
    given.delenv("AZURE_CLIENT_ID")
    given.setenv("CLAIM_API", "machines")
    given.setenv("LAUNCH_TIMEOUT", "5")
    given.setenv("ARM_ENDPOINT", "http://insecure")
    given.setenv("METRICS_PORT", "0")
    with pytest.raises(SettingsError) as error:
        load()
    text = str(error.value)
    assert text.count("\n  - ") == 6
    assert "AZURE_CLUSTER_NAME: not set. Set it to: name of the managed cluster." in text
    assert "AZURE_CLIENT_ID: not set, but needed to sign in by workload identity" in text
    assert "CLAIM_API: 'machines' is not valid" in text
    assert "LAUNCH_TIMEOUT: '5' is not valid: must be a duration such as" in text
    assert "ARM_ENDPOINT: 'http://insecure' is not valid" in text
    assert "METRICS_PORT: '0' is not valid" in text


def test_an_empty_variable_counts_as_not_set(given: pytest.MonkeyPatch) -> None:
    given.setenv("ARM_ENDPOINT", "")
    given.setenv("AZURE_CLUSTER_NAME", "  ")
    with pytest.raises(SettingsError, match="AZURE_CLUSTER_NAME"):
        load()


def test_managed_mode_needs_no_workload_identity(given: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
        given.delenv(name)
    given.setenv("DEPLOYMENT_MODE", "managed")
    assert load().deployment_mode == "managed"


@pytest.mark.parametrize(
    ("text", "minutes"), [("15m", 15), ("1h30m", 90), ("90s", 1.5), ("1h", 60), (" 2m ", 2)]
)
def test_durations_are_read_as_kubernetes_writes_them(
    given: pytest.MonkeyPatch, text: str, minutes: float
) -> None:
    given.setenv("REGISTRATION_TIMEOUT", text)
    assert load().registration_timeout == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["0s", "-5m", "m", "15 minutes", "PT15M"])
def test_other_durations_are_refused(given: pytest.MonkeyPatch, text: str) -> None:
    given.setenv("REGISTRATION_TIMEOUT", text)
    with pytest.raises(SettingsError, match="REGISTRATION_TIMEOUT"):
        load()


def test_variables_of_earlier_releases_do_no_harm(given: pytest.MonkeyPatch) -> None:
    given.setenv("AZURE_NODE_RESOURCE_GROUP", "MC_x")
    given.setenv("E2E_TEST_MODE", "false")
    given.setenv("LOG_LEVEL", "DEBUG")
    assert load().log_level == "debug"


def test_every_variable_is_explained() -> None:
    text = explain()
    for field in Settings.model_fields.values():
        assert f"  {field.alias}" in text
        assert field.description


def test_help_teaches_and_a_bad_environment_ends_with_status_2() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "gpu_provisioner", "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0
    assert "ARM_SUBSCRIPTION_ID (required)" in shown.stdout
    refused = subprocess.run(
        [sys.executable, "-m", "gpu_provisioner"],
        capture_output=True,
        text=True,
        check=False,
        env={},
    )
    assert refused.returncode == 2
    assert "ARM_RESOURCE_GROUP: not set" in refused.stderr
    assert refused.stdout == ""
