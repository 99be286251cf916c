"""What the job can be told by flags, with defaults, ranges and the text of `--help`.

Flags may be written with dashes or underscores; nothing unknown is absorbed.
"""

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from runtimes.failure import Exit, Failure
from runtimes.termination import TERMINATION_LOG

GIB = 1 << 30
PROGRAM = "python -m runtimes.tuning"
DESCRIPTION = """\
Fine-tune one model with LoRA or QLoRA, on GPUs or on the CPU, and push the adapter as an image.

  python -m runtimes.tuning --method=qlora --base_model_name=phi-3-mini-4k-instruct \\
      --pretrained_model_name_or_path=/models/phi-3 --config_file=training_config.yaml \\
      --data_url=https://example.com/train.parquet --output_dir=/mnt/results
"""
EPILOG = """\
progress: GET /progress, /metrics and /health on --port. The last word is JSON in --termination_log.

An interrupted job goes on where it was when it is started again with the same --output_dir, and a finished
one is pushed without training again.

exit codes:
  0    done
  2    settings or training_config.yaml are wrong
  3    the dataset cannot be used
  4    out of memory
  5    the adapter is there, but could not be pushed
  143  ended by SIGTERM; a checkpoint is saved
  1    anything else: the network, the model's weights, a full disk
"""


class Settings(BaseModel):
    """Everything the job can be told."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    method: Literal["lora", "qlora"]
    """lora trains beside whole weights, qlora beside weights of 4 or 8 bits"""
    base_model_name: Annotated[str, Field(min_length=1, max_length=200)]
    """name of the base model that the adapter tells, such as its preset's"""
    pretrained_model_name_or_path: Annotated[str, Field(min_length=1)] = "/workspace/weights"
    """folder with the base model, or with --allow_remote_files an id on the model hub (org/name)"""
    revision: str = "main"
    """commit, tag or branch on the model hub"""
    allow_remote_files: bool = False
    """download the base model from the hub that HF_ENDPOINT names, if it is not on disk"""
    download_dir: Path = Path("/workspace/weights")
    """folder that the base model is downloaded to"""
    hub_token_file: Path | None = None
    """file with a token of the model hub, for models with restricted access"""
    config_file: Path = Path("/mnt/config/training_config.yaml")
    """the training's YAML file"""
    data_url: list[str] = []
    """HTTP(S) URL of a dataset file (repeatable); ends in #sha256=HEX to have it checked"""
    data_dir: Path = Path("/mnt/data")
    """folder with dataset files, used if there is no --data_url"""
    max_data_bytes: Annotated[int, Field(ge=1)] = 50 * GIB
    """most bytes that all --data_url may have together"""
    allow_local_addresses: bool = False
    """fetch also from loopback and link-local addresses, a cloud's metadata service apart"""
    output_dir: str = ""
    """folder for checkpoints and the adapter; default: the config's, or /mnt/output"""
    output_image: str = ""
    """push the adapter as this image, HOST/NAME:TAG"""
    docker_config: list[Path] = []
    """file like ~/.docker/config.json with the login for --output_image (repeatable)"""
    insecure_registry: list[str] = []
    """registry that may be spoken to by plain HTTP, HOST[:PORT] (repeatable)"""
    checkpoint_seconds: Annotated[float, Field(ge=0)] = 600
    """save a checkpoint at least this often, besides save_strategy; 0: only by save_strategy"""
    processes: Annotated[int, Field(ge=1, le=64)] | None = None
    """training processes; default: one for each GPU, or one"""
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    """CPU threads of each process; default: the container's CPU limit, or all cores"""
    host: str = "0.0.0.0"
    """address to listen on"""
    port: Annotated[int, Field(ge=0, le=65_535)] = 5000
    """port for /progress, /metrics and /health; 0: any free one"""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """least important lines to log"""
    termination_log: Path = TERMINATION_LOG
    """file, if it exists, that gets the last word"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(Exit.SETTINGS, f"{message}; --help lists all flags")


def read(arguments: Sequence[str]) -> Settings:
    """The settings of this process. Raises `Failure` with every mistake named."""
    known, unknown = _parser().parse_known_args([_underscored(word) for word in arguments])
    if unknown:
        raise Failure(Exit.SETTINGS, _unknown(unknown[0]))
    try:
        return Settings(**vars(known))
    except ValidationError as error:
        raise Failure(Exit.SETTINGS, _explain(error)) from error


def _underscored(word: str) -> str:
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{name[2:].replace('-', '_')}{equals}{value}"


def _unknown(word: str) -> str:
    name = word.partition("=")[0]
    if not name.startswith("--"):
        return f"{name!r} belongs to no flag; write --name=value"
    near = difflib.get_close_matches(name[2:], Settings.model_fields, 1, 0.5)
    return f"unknown flag {name}" + (f": did you mean --{near[0]}?" if near else "")


def _explain(error: ValidationError) -> str:
    problems = []
    for item in error.errors(include_url=False):
        flag = f"--{item['loc'][0]}"
        if item["type"] == "missing":
            problems.append(f"{flag} is needed")
        else:
            problems.append(f"{flag} {item['input']!r}: {item['msg']}")
    return "; ".join(problems)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog=PROGRAM,
        usage="%(prog)s --name=value ...",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    for name, info in Settings.model_fields.items():
        parser.add_argument(f"--{name}", **_option(name, info))
    return parser


def _option(name: str, info: FieldInfo) -> dict[str, Any]:
    text = info.description or ""
    if info.is_required():
        text += " (needed)"
    elif info.default not in (None, "", False, []):
        text += f" (default: {info.default})"
    option: dict[str, Any] = {"help": text.replace("%", "%%")}
    if info.annotation is bool:
        return {**option, "nargs": "?", "const": "true", "metavar": "true|false"}
    if get_origin(info.annotation) is list:
        option["action"] = "append"
    return {**option, "metavar": name.rsplit("_", 1)[-1].upper()}
