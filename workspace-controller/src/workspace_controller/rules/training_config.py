"""A training configuration, key `training_config.yaml` of the ConfigMap in `tuning.config`.

Invariant: what no run could begin with is refused here, before a node is paid for: unknown sections,
a quantization that does not suit the method, a folder for results outside /mnt. The other keys of a
section belong to the runtime, whose version knows them. Pure: admission asks it about a new object,
the controller about an old one.
"""

import posixpath
from collections.abc import Iterator, Mapping
from typing import Any, Final

from workspace_controller.nearest import nearest
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Rule
from workspace_controller.rules.yaml_text import yaml_map

CONTENT = Rule(
    "training-config",
    "training_config.yaml holds training_config with known sections; QuantizationConfig suits the "
    "method; TrainingArguments.output_dir lies below /mnt and is free.",
)

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
BITS: Final = ("load_in_4bit", "load_in_8bit")


def problems(data: Mapping[str, str], method: str) -> Iterator[str]:
    """What is wrong with a training configuration, a sentence each.

    Args:
        data: the content of the ConfigMap.
        method: `lora` or `qlora`; any other leaves the rules on quantization out.
    """
    content = yield from yaml_map(data, KEY)
    if content is None:
        return
    root = content.get(ROOT)
    if not isinstance(root, dict):
        yield f"{KEY} must hold a map under its top key {ROOT}"
        return
    others = ", ".join(sorted(str(name) for name in content if name != ROOT))
    if others:
        yield f"{KEY} has {others} beside its only top key {ROOT}"
    for name, section in root.items():
        if name not in SECTIONS:
            hint = nearest(str(name), SECTIONS)
            yield (
                f"{ROOT}.{name} is no section.{f' Did you mean {hint}?' if hint else ''} "
                f"Allowed: {', '.join(SECTIONS)}"
            )
        elif not isinstance(section, dict) and section is not None:
            yield f"{ROOT}.{name} is {shown(section)}; it must be a map"
    yield from _quantization_problems(_section(root, "QuantizationConfig"), method)
    yield from _output_problems(_section(root, "TrainingArguments"))


def results_folder(data: Mapping[str, str]) -> str:
    """The folder of results of a configuration without problems, absolute and below `/mnt`."""
    walk = yaml_map(data, KEY)
    try:
        next(walk)
    except StopIteration as end:
        asked = _section(end.value[ROOT], "TrainingArguments").get("output_dir")
        return _folder(asked) if asked else DEFAULT_OUTPUT
    raise ValueError("a configuration with problems has no folder of results")


def _section(root: Mapping[Any, Any], name: str) -> Mapping[Any, Any]:
    section = root.get(name)
    return section if isinstance(section, dict) else {}


def _quantization_problems(section: Mapping[Any, Any], method: str) -> Iterator[str]:
    where = f"{ROOT}.QuantizationConfig"
    for key in BITS:
        value = section.get(key)
        if value is not None and not isinstance(value, bool):
            yield f"{where}.{key} is {shown(value)}; allowed: true or false"
    chosen = [key for key in BITS if section.get(key) is True]
    if len(chosen) > 1:
        yield f"{where} sets {' and '.join(BITS)} both to true: choose one"
    if method == "lora" and chosen:
        yield f"{where}.{chosen[0]} is true, which is for tuning.method qlora, not for lora"
    if method == "qlora" and not chosen:
        yield f"{where} sets neither of {' and '.join(BITS)} to true, and tuning.method qlora needs one"


def _output_problems(section: Mapping[Any, Any]) -> Iterator[str]:
    where = f"{ROOT}.TrainingArguments.output_dir"
    asked = section.get("output_dir")
    if asked is None or asked == "":
        return
    if not isinstance(asked, str):
        yield f"{where} is {shown(asked)}; it must be a path below {MOUNT}"
        return
    folder = _folder(asked)
    if not folder.startswith(f"{MOUNT}/"):
        yield f"{where} is {shown(asked)}, which does not lie below {MOUNT}"
    elif any(folder == taken or folder.startswith(f"{taken}/") for taken in TAKEN):
        yield f"{where} is {shown(asked)}; {', '.join(TAKEN)} are in use: choose another folder"


def _folder(asked: str) -> str:
    """The folder as the runtime finds it: what does not begin with /mnt lies below it."""
    plain = posixpath.normpath(asked)
    if plain == MOUNT or plain.startswith(f"{MOUNT}/"):
        return plain
    return posixpath.normpath(f"{MOUNT}/{asked}")
