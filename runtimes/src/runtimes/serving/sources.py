"""Collect the settings: flags win over the YAML file, which wins over the environment.

Whatever is wrong is named where it was written, with the nearest right name; nothing unknown is absorbed.
"""

import argparse
import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_origin

import structlog
import yaml
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from runtimes.failure import Exit, StartupFailure
from runtimes.serving.settings import Settings

PREFIX = "RUNTIME_"
# Flags that earlier servers took, and what to do in their place.
RETIRED = {
    "cache_dir": "use --download_dir",
    "force_download": "delete the model's folder in --download_dir",
    "from_tf": "only safetensors are loaded",
    "local_files_only": "leave out --allow_remote_files",
    "proxies": "set HTTPS_PROXY in the environment",
    "resume_download": "leave it out: finished files are always kept",
}


# Lines that earlier files may have and that changed nothing: taken and reported, so that files go on working.
WITHOUT_EFFECT = ("max_probe_steps", "kv_cache_cpu_memory_utilization")

log = structlog.get_logger(__name__)


@dataclass
class Collected:
    """Values by setting, and where each was written; later sources replace earlier ones."""

    values: dict[str, Any] = field(default_factory=dict)
    written: dict[str, str] = field(default_factory=dict)

    def put(self, name: str, value: Any, written: str) -> None:
        """Take a value from a source that wins over all before it."""
        self.values[name] = value
        self.written[name] = written


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise StartupFailure(Exit.SETTINGS, f"{message}; --help lists all flags")


def read(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of this process; raises `StartupFailure` with every mistake named."""
    flags = _flags(arguments)
    collected = Collected()
    for name in Settings.model_fields:
        variable = PREFIX + name.upper()
        if variable in environment:
            collected.put(name, environment[variable], variable)
    config_file = flags.get("config_file") or collected.values.get("config_file")
    if config_file:
        for name, value in _file(Path(config_file)).items():
            collected.put(name, value, f"{config_file}: {name}")
    for name, value in flags.items():
        collected.put(name, value, f"--{name}")
    try:
        return Settings(**collected.values)
    except ValidationError as error:
        raise StartupFailure(Exit.SETTINGS, _explain(error, collected.written)) from error


def _flags(arguments: Sequence[str]) -> dict[str, str]:
    known, unknown = _parser().parse_known_args(arguments)
    if unknown:
        name = unknown[0].split("=")[0]
        if not name.startswith("--"):
            raise StartupFailure(Exit.SETTINGS, f"{name!r} belongs to no flag; write --name=value")
        raise StartupFailure(Exit.SETTINGS, f"unknown flag {name}{_advice(name[2:], '--')}")
    return vars(known)


def _file(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise StartupFailure(Exit.SETTINGS, f"--config_file {path}: {error}") from error
    if not isinstance(content, dict):
        raise StartupFailure(Exit.SETTINGS, f"--config_file {path}: expected name: value lines")
    for name in WITHOUT_EFFECT:
        if content.pop(name, None) is not None:
            log.warning("a setting without effect", file=str(path), setting=name)
    for name in content:
        if name not in Settings.model_fields:
            raise StartupFailure(
                Exit.SETTINGS, f"{path}: unknown setting {name}{_advice(str(name), '')}"
            )
    return content


def _advice(name: str, dashes: str) -> str:
    if name in RETIRED:
        return f": {RETIRED[name]}"
    near = difflib.get_close_matches(name.replace("-", "_"), Settings.model_fields, 1, 0.5)
    if near:
        return f": did you mean {dashes}{near[0]}?"
    return "; --help lists all flags"


def _explain(error: ValidationError, written: Mapping[str, str]) -> str:
    problems = []
    for item in error.errors(include_url=False):
        message = item["msg"].removeprefix("Value error, ")
        if not item["loc"]:
            problems.append(message)
            continue
        name = str(item["loc"][0])
        problems.append(f"{written.get(name, name)} {item['input']!r}: {message}")
    return "; ".join(problems)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m runtimes.serving",
        usage="%(prog)s [--name=value ...]",
        description="Serve one model over HTTP: POST /chat; GET /health, /healthz, /ready, /metrics.",
        epilog="Every setting can also be a line of --config_file, or a variable such as "
        f"{PREFIX}MAX_QUEUE=8; flags win over the file, the file over variables. "
        "HF_ENDPOINT chooses another model hub.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, info in Settings.model_fields.items():
        is_switch = info.annotation is bool
        parser.add_argument(
            f"--{name}",
            metavar="true|false" if is_switch else name.rsplit("_", 1)[-1].upper(),
            **_many(info, is_switch),
            help=_help(info).replace("%", "%%"),
        )
    return parser


def _many(info: FieldInfo, is_switch: bool) -> dict[str, Any]:
    if is_switch:
        return {"nargs": "?", "const": "true"}
    return {"action": "append"} if get_origin(info.annotation) is dict else {}


def _help(info: FieldInfo) -> str:
    text = info.description or ""
    if info.default in (None, "", False, {}):
        return text
    return f"{text} (default: {info.default})"
