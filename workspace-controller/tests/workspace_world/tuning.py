"""A tuning Workspace, and its pod as kubelet and Job controller would have it."""

import json
from typing import Any

from gpuapis import labels

DIGEST = "sha256:" + "ab" * 32
OUTPUT = "registry.example.com/team/adapter:1"
DEFAULTS = """
training_config:
  QuantizationConfig: {load_in_4bit: true}
  TrainingArguments: {output_dir: /mnt/results}
"""


def tuning(**changes: Any) -> dict[str, Any]:
    """The `tuning` part of a Workspace: qlora, data from one URL, the result to an image."""
    asked: dict[str, Any] = {
        "preset": {"name": "phi-3-mini-128k-instruct"},
        "method": "qlora",
        "input": {"urls": ["https://example.com/data.parquet"]},
        "output": {"image": OUTPUT, "imagePushSecret": "push"},
    }
    return asked | changes


def words(**changes: Any) -> str:
    """A termination message of the runtime."""
    said: dict[str, Any] = {
        "phase": "Succeeded",
        "step": 9,
        "total": 9,
        "epoch": 3.0,
        "loss": 0.5,
        "eval_loss": None,
        "image": OUTPUT,
        "digest": DIGEST,
        "error": None,
        "reason": None,
    }
    return json.dumps(said | changes)


def pod_status(container: str, phase: str, code: int = 0, message: str = "") -> dict[str, Any]:
    """The status of a run's pod: Running, Succeeded or Failed."""
    began = "2026-01-01T00:10:00Z"
    state: dict[str, Any] = {"running": {"startedAt": began}}
    if phase != "Running":
        ended = {"startedAt": began, "finishedAt": "2026-01-01T01:00:00Z", "message": message}
        state = {"terminated": {"exitCode": code, "reason": "Completed", **ended}}
    status = {
        "name": container,
        "image": "example.com/x",
        "imageID": "",
        "ready": phase == "Running",
        "restartCount": 0,
        "state": state,
    }
    return {"phase": phase, "startTime": began, "containerStatuses": [status]}


def job_pod(name: str, namespace: str, workspace: str, job_uid: str) -> dict[str, Any]:
    """A pod of a run's Job, on a node."""
    marks = {labels.WORKSPACE: workspace, labels.JOB_UID: job_uid}
    spec = {"containers": [{"name": workspace, "image": "example.com/x"}], "nodeName": "node-0"}
    return {"metadata": {"name": name, "namespace": namespace, "labels": marks}, "spec": spec}
