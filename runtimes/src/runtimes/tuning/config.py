"""Read `training_config.yaml` into typed sections.

Nothing is absorbed in silence: a key is used, or a warning says why it is not, or the file is refused with
every mistake named by its path.
"""

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from runtimes.failure import Exit, Failure
from runtimes.tuning.sections import (
    DataCollator,
    DatasetConfig,
    LoraConfig,
    ModelConfig,
    QuantizationConfig,
    Section,
)
from runtimes.tuning.training_arguments import TrainingArguments

ROOT = "training_config"
MAX_BYTES = 1 << 20


class TrainingConfig(BaseModel):
    """The whole file; a section that is left out has its defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ModelConfig: ModelConfig
    QuantizationConfig: QuantizationConfig
    LoraConfig: LoraConfig
    TrainingArguments: TrainingArguments
    DataCollator: DataCollator
    DatasetConfig: DatasetConfig

    def digest(self) -> str:
        """The same for two files that mean the same training."""
        content = json.dumps(self.model_dump(), sort_keys=True)
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


SECTIONS: Mapping[str, type[Section]] = {
    "ModelConfig": ModelConfig,
    "QuantizationConfig": QuantizationConfig,
    "LoraConfig": LoraConfig,
    "TrainingArguments": TrainingArguments,
    "DataCollator": DataCollator,
    "DatasetConfig": DatasetConfig,
}


@dataclass
class Reading:
    """What came out of a file: sections, and what to tell its author."""

    sections: dict[str, Section] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read(path: Path, method: str) -> tuple[TrainingConfig, list[str]]:
    """The file's content, and warnings about keys that have no effect.

    `method` is lora or qlora, which the quantization must fit. Raises `Failure`.
    """
    reading = Reading()
    for name, content in _sections(path, reading).items():
        _read_section(name, content, reading)
    if not reading.problems:
        _check_method(reading, method)
    if reading.problems:
        raise Failure(Exit.SETTINGS, f"{path}: {'; '.join(reading.problems)}")
    return TrainingConfig.model_validate(reading.sections), reading.warnings


def _sections(path: Path, reading: Reading) -> dict[str, Any]:
    found = _load(path)
    sections = dict.fromkeys(SECTIONS, None) | found
    for name in found:
        if name not in SECTIONS:
            reading.problems.append(f"{ROOT}.{name}: unknown section{_nearest(name, SECTIONS)}")
    return {name: sections[name] or {} for name in SECTIONS}


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise Failure(Exit.SETTINGS, f"{path} is longer than {MAX_BYTES:,} bytes")
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise Failure(Exit.SETTINGS, f"--config_file {path} cannot be read: {text}") from error
    if not isinstance(content, dict) or list(content) != [ROOT]:
        raise Failure(Exit.SETTINGS, f"{path}: expected one key at the top, {ROOT}")
    sections = content[ROOT] or {}
    if not isinstance(sections, dict):
        raise Failure(Exit.SETTINGS, f"{path}: {ROOT} is not a map of sections")
    return sections


def _read_section(name: str, content: Any, reading: Reading) -> None:
    kind = SECTIONS[name]
    if not isinstance(content, dict):
        reading.problems.append(f"{ROOT}.{name}: expected key: value lines")
        return
    values: dict[str, Any] = {}
    for written, value in content.items():
        key = kind.renamed.get(written, written)
        path = f"{ROOT}.{name}.{written}"
        if _is_empty(value):
            if key not in kind.model_fields and written not in {*kind.ignored, *kind.refused}:
                reading.problems.append(f"{path}: unknown key{_nearest(written, _known(kind))}")
        elif key in kind.model_fields:
            values[key] = value
        elif written in kind.ignored:
            reading.warnings.append(f"{path} has no effect: {kind.ignored[written]}")
        elif written in kind.refused:
            if value not in (False, "false", "False", {}, []):
                reading.problems.append(f"{path} is refused: {kind.refused[written]}")
        else:
            reading.problems.append(f"{path}: unknown key{_nearest(written, _known(kind))}")
    try:
        reading.sections[name] = kind.model_validate(values)
    except ValidationError as error:
        reading.problems += _explain(name, error)


def _is_empty(value: Any) -> bool:
    """An empty key means its default, and so does the word None, which is no null in YAML."""
    return value is None or value == "None"


def _known(kind: type[Section]) -> list[str]:
    return [*kind.model_fields, *kind.renamed, *kind.ignored, *kind.refused]


def _nearest(name: Any, known: Any) -> str:
    near = difflib.get_close_matches(str(name), list(known), 1, 0.6)
    return f"; did you mean {near[0]}?" if near else f"; known: {', '.join(sorted(known))}"[:400]


def _explain(name: str, error: ValidationError) -> list[str]:
    problems: list[str] = []
    for item in error.errors(include_url=False):
        # a union reports each of its members; the first says enough
        place = ".".join(str(part) for part in item["loc"][:1])
        message = item["msg"].removeprefix("Value error, ")
        given = f" (found {item['input']!r:.80})" if place else ""
        text = f"{ROOT}.{name}{'.' if place else ''}{place}: {message}{given}"
        if not any(problem.startswith(f"{ROOT}.{name}.{place}:") for problem in problems):
            problems.append(text)
    return problems


def _check_method(reading: Reading, method: str) -> None:
    quantization = reading.sections["QuantizationConfig"]
    model = reading.sections["ModelConfig"]
    assert isinstance(quantization, QuantizationConfig)
    assert isinstance(model, ModelConfig)
    bits = [
        f"{section}.{key}"
        for section, values in (("QuantizationConfig", quantization), ("ModelConfig", model))
        for key in ("load_in_4bit", "load_in_8bit")
        if getattr(values, key)
    ]
    if method == "lora" and bits:
        reading.problems.append(f"{ROOT}.{bits[0]}: lora trains on whole weights; use qlora")
    if method == "qlora" and not (quantization.load_in_4bit or quantization.load_in_8bit):
        reading.problems.append(
            f"{ROOT}.QuantizationConfig: qlora needs load_in_4bit: true or load_in_8bit: true"
        )
