"""A training configuration: the folder of its results, and a Workspace's copy of the defaults.

Invariant: what the runtime would refuse for its shape is refused before a node is paid for, by the
rules that admission keeps too: a ConfigMap may have changed since.
"""

from typing import Any, Final

from gpuapis.core import ConfigMap
from gpuapis.workspace import Workspace
from workspace_controller.manifests.ownership import child_metadata
from workspace_controller.rules.training_config import KEY, problems, results_folder

TEMPLATES: Final = {"lora": "lora-params-template", "qlora": "qlora-params-template"}
"""The ConfigMaps of the release namespace that hold the defaults, by method."""


class UnusableConfig(Exception):
    """A training configuration that cannot be used; the text says where and why."""


def output_folder(text: str | None, method: str) -> str:
    """The folder of results that a training configuration names, absolute and below `/mnt`.

    Args:
        text: the content of `training_config.yaml`; None where the ConfigMap has no such key.
        method: `lora` or `qlora`.

    Raises:
        UnusableConfig: the runtime would refuse it.
    """
    data = {} if text is None else {KEY: text}
    refusal = "; ".join(problems(data, method))
    if refusal:
        raise UnusableConfig(refusal)
    return results_folder(data)


def config_copy(workspace: Workspace, run: str, text: str) -> dict[str, Any]:
    """The Workspace's own copy of the defaults, under the name that its Job mounts.

    The copy stays as it is while the run lasts, whatever an upgrade does to the defaults.
    """
    metadata = child_metadata(workspace, run) | {"name": copy_name(workspace)}
    return {
        "apiVersion": ConfigMap.RESOURCE.api_version,
        "kind": ConfigMap.RESOURCE.kind,
        "metadata": metadata,
        "data": {KEY: text},
    }


def copy_name(workspace: Workspace) -> str:
    """The name of that copy."""
    return f"{workspace.metadata.name}-training-config"


def method_of(workspace: Workspace) -> str:
    """The method in lower case; "" when none is named."""
    assert workspace.tuning is not None
    return (workspace.tuning.method or "").lower()
