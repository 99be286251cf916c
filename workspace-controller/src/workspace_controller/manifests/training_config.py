"""A training configuration: what makes it usable, and what the Job needs to know of it.

Invariant: what the runtime would refuse for its shape is refused here, by section and key, before
a node is paid for.
"""

import posixpath
from typing import Any, Final

import yaml

from gpuapis.core import ConfigMap
from gpuapis.workspace import Workspace
from workspace_controller.manifests.ownership import child_metadata

KEY: Final = "training_config.yaml"
ROOT: Final = "training_config"
SECTIONS: Final = (
    "DataCollator",
    "DatasetConfig",
    "LoraConfig",
    "ModelConfig",
    "QuantizationConfig",
    "TrainingArguments",
)
MOUNT: Final = "/mnt"
DEFAULT_OUTPUT: Final = "/mnt/output"
TAKEN: Final = ("/mnt/config", "/mnt/data", "/mnt/secrets")
MOST_BYTES: Final = 32 * 1024
"""Longer ones would hold up the event loop while they are parsed; real ones have 2 kB."""
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
    if text is None:
        raise UnusableConfig(f"it has no key {KEY}")
    sections = _sections(text)
    _check_quantization(sections.get("QuantizationConfig") or {}, method)
    return _output(sections.get("TrainingArguments") or {})


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


def _sections(text: str) -> dict[str, dict[str, Any]]:
    if len(text.encode()) > MOST_BYTES:
        raise UnusableConfig(f"{KEY} has {len(text.encode())} bytes; at most {MOST_BYTES} are read")
    try:
        content = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
    except (yaml.YAMLError, RecursionError) as error:
        raise UnusableConfig(f"{KEY} is no YAML: {' '.join(str(error).split())}") from error
    root = content.get(ROOT) if isinstance(content, dict) else None
    if not isinstance(root, dict):
        raise UnusableConfig(f"{KEY} holds no map under its top key {ROOT}")
    for name, section in root.items():
        if name not in SECTIONS:
            raise UnusableConfig(
                f"{KEY}: {ROOT}.{name} is no section; allowed: {', '.join(SECTIONS)}"
            )
        if section is not None and not isinstance(section, dict):
            raise UnusableConfig(f"{KEY}: {ROOT}.{name} is no map")
    return root


def _check_quantization(section: dict[str, Any], method: str) -> None:
    chosen = []
    for key in ("load_in_4bit", "load_in_8bit"):
        value = section.get(key)
        where = f"{KEY}: {ROOT}.QuantizationConfig.{key}"
        if value is not None and not isinstance(value, bool):
            raise UnusableConfig(f"{where} is {value!r}; allowed: true or false")
        if value:
            chosen.append(key)
    where = f"{KEY}: {ROOT}.QuantizationConfig"
    if len(chosen) > 1:
        raise UnusableConfig(f"{where} sets load_in_4bit and load_in_8bit both to true: choose one")
    if method == "lora" and chosen:
        raise UnusableConfig(
            f"{where}.{chosen[0]} is true, which is for tuning.method qlora, not lora"
        )
    if method == "qlora" and not chosen:
        raise UnusableConfig(
            f"{where} sets neither load_in_4bit nor load_in_8bit, and qlora needs one"
        )


def _output(section: dict[str, Any]) -> str:
    asked = section.get("output_dir")
    if asked is None or asked == "":
        return DEFAULT_OUTPUT
    where = f"{KEY}: {ROOT}.TrainingArguments.output_dir"
    if not isinstance(asked, str):
        raise UnusableConfig(f"{where} is {asked!r}; allowed: a path below {MOUNT}")
    plain = posixpath.normpath(asked)
    under = plain == MOUNT or plain.startswith(f"{MOUNT}/")
    folder = plain if under else posixpath.normpath(f"{MOUNT}/{asked}")
    if not folder.startswith(f"{MOUNT}/"):
        raise UnusableConfig(f"{where} is {asked!r}, which does not lie below {MOUNT}")
    for taken in TAKEN:
        if folder == taken or folder.startswith(f"{taken}/"):
            raise UnusableConfig(f"{where} is {asked!r}; {', '.join(TAKEN)} are in use")
    return folder
