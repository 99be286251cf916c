"""A sound Workspace, but for what a test changes."""

from dataclasses import replace
from datetime import date
from typing import Any

from gpuapis.workspace import Workspace
from workspace_controller.presets.catalog import catalog
from workspace_controller.rules.configs import ConfigRead
from workspace_controller.rules.training_config import KEY
from workspace_controller.skus.table import sku_table
from workspace_controller.workspaces.target import Knowledge

TODAY = date(2026, 11, 24)
SIZE = "Standard_NC24ads_A100_v4"
PHI: dict[str, Any] = {"preset": {"name": "phi-3-mini-128k-instruct"}}
FALCON: dict[str, Any] = {"preset": {"name": "falcon-7b"}}
LLAMA: dict[str, Any] = {
    "preset": {
        "name": "llama-3.3-70b-instruct",
        "presetOptions": {"modelAccessSecret": "hub-token"},
    }
}
QWEN: dict[str, Any] = {"preset": {"name": "qwen3.5-9b"}}
"""One that vLLM alone serves."""
TEMPLATE: dict[str, Any] = {"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}
INPUT: dict[str, Any] = {"urls": ["https://data.example.com/train.parquet"]}
OUTPUT: dict[str, Any] = {"image": "registry.example.com/a/b:v1", "imagePushSecret": "push"}
CLAIM: dict[str, Any] = {"persistentVolumeClaim": {"claimName": "data"}}


def knowledge(**facts: Any) -> Knowledge:
    return replace(Knowledge(catalog(), sku_table("azure")), **facts)


def manifest(
    *,
    name: str = "w",
    notes: dict[str, str] | None = None,
    selector: dict[str, Any] | None = None,
    size: str | None = SIZE,
    inference: dict[str, Any] | None = PHI,
    resource: dict[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """A Workspace that serves phi-3-mini; `more` adds parts beside `inference`."""
    asked: dict[str, Any] = {"labelSelector": selector or {"matchLabels": {"apps": "x"}}}
    if size is not None:
        asked["instanceType"] = size
    found = {
        "metadata": {"name": name, "namespace": "n", "annotations": notes or {}},
        "resource": asked | (resource or {}),
        **more,
    }
    return found if inference is None else found | {"inference": inference}


def workspace(**facts: Any) -> Workspace:
    return Workspace.model_validate(manifest(**facts))


def tuning(**changes: Any) -> dict[str, Any]:
    """The facts of a Workspace that tunes falcon-7b; a change to None takes a part away."""
    sound = {**FALCON, "method": "qlora", "input": INPUT, "output": OUTPUT} | changes
    return {
        "inference": None,
        "tuning": {name: value for name, value in sound.items() if value is not None},
    }


def data(**changes: Any) -> dict[str, Any]:
    """A tuning with another source of its data."""
    return tuning(input=changes)


def result(**changes: Any) -> dict[str, Any]:
    """A tuning with another place for its result."""
    return tuning(output=changes)


def spec(**changes: Any) -> dict[str, Any]:
    """A Workspace with a template whose pod spec is changed."""
    sound = {"containers": [{"name": "a", "image": "b"}]}
    return {"inference": {"template": {"spec": sound | changes}}}


def adapters(*given: dict[str, Any]) -> dict[str, Any]:
    """A Workspace with these adapters."""
    return {"inference": PHI | {"adapters": list(given)}}


def adapter(name: str | None = "a", strength: str | None = None, **source: Any) -> dict[str, Any]:
    """One adapter; from an image, unless it is said from where."""
    found: dict[str, Any] = {"source": source or {"image": "registry.example.com/a:v1"}}
    if name is not None:
        found["source"]["name"] = name
    return found if strength is None else found | {"strength": strength}


def config(text: str | None, *, key: str = KEY, name: str = "settings") -> ConfigRead:
    """A ConfigMap with that text; None for one that is not there."""
    return ConfigRead(name, None if text is None else {key: text})
