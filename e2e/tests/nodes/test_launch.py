"""What a container becomes, and what a pod's status says of it: no process is started here."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sandbox.nodes.process.addresses import pod_address
from sandbox.nodes.process.launch import Place, launch, named_port, refusal
from sandbox.nodes.process.probing import Tally
from sandbox.nodes.process.status import Exit, PodState, State
from sandbox.nodes.process.views import Container, Pod, Probe

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLACE = Place(
    python=Path("/venv/bin/python"),
    address="127.130.0.7",
    node_address="127.64.0.7",
    folders={
        "weights": Path("/host/weights"),
        "tmp": Path("/host/tmp"),
        "deep": Path("/host/deep"),
    },
    termination_log=Path("/host/last-words"),
)


def pod(**container: Any) -> Pod:
    base = {
        "name": "server",
        "image": "r.example/a/kaito-base:1",
        "command": ["python3", "-m", "runtimes.serving"],
    }
    return Pod.model_validate(
        {
            "metadata": {"name": "phi-0", "namespace": "models", "uid": "u1"},
            "spec": {
                "nodeName": "n1",
                "containers": [{**base, **container}],
                "volumes": [{"name": name, "emptyDir": {}} for name in PLACE.folders],
            },
        }
    )


def launched(**container: Any) -> tuple[tuple[str, ...], dict[str, str]]:
    subject = pod(**container)
    found = launch(subject, subject.spec.containers[0], PLACE, {"PATH": "/bin"}, {("s", "k"): "v"})
    return found.argv, dict(found.env)


MOUNTS = [
    {"name": "weights", "mountPath": "/workspace/weights"},
    {"name": "deep", "mountPath": "/workspace/weights/deep"},
    {"name": "tmp", "mountPath": "/tmp/"},
]


@pytest.mark.parametrize(
    ("word", "becomes"),
    [
        ("--download_dir=/workspace/weights", "--download_dir=/host/weights"),
        ("--x=/workspace/weights/a/b", "--x=/host/weights/a/b"),
        ("--x=/workspace/weights/deep/a", "--x=/host/deep/a"),
        ("--x=/workspace/weights-other", "--x=/workspace/weights-other"),
        ("--model=microsoft/phi-3", "--model=microsoft/phi-3"),
        ("/tmp/x", "/host/tmp/x"),
        ("--termination_log=/dev/termination-log", "--termination_log=/host/last-words"),
        ("--allow_remote_files", "--allow_remote_files"),
    ],
)
def test_a_path_of_a_mount_becomes_a_folder_of_this_machine(word: str, becomes: str) -> None:
    argv, _ = launched(args=[word], volumeMounts=MOUNTS)
    assert argv == ("/venv/bin/python", "-m", "runtimes.serving", becomes)


def test_the_environment_is_the_containers_and_the_address_is_the_pods() -> None:
    _, env = launched(
        volumeMounts=MOUNTS,
        env=[
            {"name": "HF_HOME", "value": "/tmp/hf"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
            {
                "name": "NONE",
                "valueFrom": {"secretKeyRef": {"name": "s", "key": "x", "optional": True}},
            },
        ],
    )
    assert env["HF_HOME"] == "/host/tmp/hf"
    assert (env["POD"], env["IP"], env["TOKEN"]) == ("phi-0", "127.130.0.7", "v")
    assert "NONE" not in env
    assert (env["RUNTIME_HOST"], env["TMPDIR"]) == ("127.130.0.7", "/host/tmp")
    assert env["PATH"] == "/bin"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"image": "kaito-base-evil:1"}, "kaito-base alone"),
        ({"image": "r.example/kaito-base-x@sha256:00"}, "kaito-base alone"),
        ({"command": ["bash", "-c", "x"]}, "python3 -m runtimes."),
        ({"command": ["python3", "-m", "http.server"]}, "python3 -m runtimes."),
        ({"envFrom": [{"secretRef": {"name": "x"}}]}, "envFrom"),
        ({"volumeMounts": [{"name": "tmp", "mountPath": "/a", "subPath": "b"}]}, "emptyDir"),
        ({"livenessProbe": {"exec": {"command": ["true"]}}}, "httpGet and tcpSocket"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_is_not_ours_is_refused(change: dict[str, Any], named: str, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.touch()
    subject = pod(**change)
    refused = refusal(subject, subject.spec.containers[0], python)
    assert refused is not None
    assert named in refused.message


def test_our_image_is_known_in_any_registry_and_needs_the_runtime(tmp_path: Path) -> None:
    python = tmp_path / "python"
    for image in ("kaito-base", "r:5000/a/b/kaito-base:v1", "kaito-base@sha256:00"):
        subject = pod(image=image)
        refused = refusal(subject, subject.spec.containers[0], python)
        assert refused is not None
        assert "make setup" in refused.message
    python.touch()
    assert refusal(pod(), pod().spec.containers[0], python) is None


def test_ports_are_found_by_number_and_by_name() -> None:
    container = Container.model_validate(
        {"name": "c", "ports": [{"name": "http", "containerPort": 5000}]}
    )
    assert [named_port(container, port) for port in (80, "80", "http", "no")] == [80, 80, 5000, 0]


def test_a_pod_has_a_loopback_address_that_stays() -> None:
    first = pod_address("uid-1")
    assert first == pod_address("uid-1") != pod_address("uid-2")
    assert first.startswith("127.")
    assert int(first.split(".")[1]) >= 128  # away from the addresses that people use


def test_a_verdict_takes_as_many_answers_as_the_probe_says() -> None:
    probe = Probe(success_threshold=2, failure_threshold=3)
    tally, verdicts = Tally(), []
    for success in (True, True, False, False, True, False, False, False):
        tally = tally.after(probe, success=success)
        verdicts.append(tally.verdict)
    assert verdicts == [None, True, True, True, True, True, True, False]


def ended(code: int) -> Exit:
    return Exit(code, NOW, NOW + timedelta(seconds=1))


def phase(state: State, *, policy: str = "Always", deleting: bool = False) -> str:
    spec = {"restartPolicy": policy, "containers": [{"name": "server"}]}
    metadata = {"name": "p", "namespace": "n", **({"deletionTimestamp": NOW} if deleting else {})}
    subject = Pod.model_validate({"metadata": metadata, "spec": spec})
    return PodState(subject, "127.0.0.2", "127.0.0.3", NOW, (state,)).phase


NEW = State(Container(name="server"))
CRASHED = NEW.starts(NOW).ends(ended(1))


@pytest.mark.parametrize(
    ("state", "policy", "deleting", "expected"),
    [
        (NEW, "Always", False, "Pending"),
        (NEW.starts(NOW), "Always", False, "Running"),
        (CRASHED, "Always", False, "Running"),
        (CRASHED.waits("CrashLoopBackOff", ""), "Always", False, "Running"),
        (CRASHED, "OnFailure", False, "Running"),
        (CRASHED, "Never", False, "Failed"),
        (NEW.starts(NOW).ends(ended(0)), "OnFailure", False, "Succeeded"),
        (CRASHED, "Always", True, "Failed"),
        (NEW.starts(NOW).ends(ended(0)), "Always", True, "Succeeded"),
    ],
)
def test_the_phase_is_what_a_kubelet_would_say(
    state: State, policy: str, deleting: bool, expected: str
) -> None:
    assert phase(state, policy=policy, deleting=deleting) == expected


def test_the_last_end_is_remembered_through_back_off_and_restart() -> None:
    waiting = CRASHED.waits("CrashLoopBackOff", "back-off")
    assert waiting.manifest()["lastState"]["terminated"]["exitCode"] == 1
    again = waiting.restarted().starts(NOW)
    assert again.manifest()["restartCount"] == 1
    assert again.manifest()["lastState"]["terminated"]["exitCode"] == 1
    twice = again.ends(ended(2))
    assert twice.manifest()["state"]["terminated"]["exitCode"] == 2
    assert twice.manifest()["lastState"]["terminated"]["exitCode"] == 1
