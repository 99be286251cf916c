"""`python -m runtimes.oci`: push, pull and inspect images of files.

What went wrong is the first line on stderr, and the exit code says whose matter it is.
"""

import argparse
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from runtimes import log as logs
from runtimes.failure import Exit, Failure
from runtimes.oci import registry
from runtimes.oci.layers import Limits
from runtimes.oci.reference import Reference
from runtimes.termination import TERMINATION_LOG, leave_word

EXITS = """\
exit codes:
  0    done
  1    the machine: disk full, skopeo missing
  2    what was asked: flags, reference, secret
  3    the image: no /data, too large, damaged, or unsafe to unpack
  5    the registry: not reached, login refused, no such image
  143  ended by SIGTERM
"""
PULL = """\
Put the files that an image has in /data into a folder. Layers are applied in order, whiteouts included; the rest
of the image is not unpacked. Links, devices and paths that leave the folder are refused.

  python -m runtimes.oci pull registry.example.com/team/adapter:v1 /mnt/adapter/team \\
      --docker-config=/mnt/secrets/registry/config.json
"""
PUSH = """\
Push the files of a folder as an image with one layer, in /data. The same files make the same digest, so pushing
them again changes nothing. The last line on stdout is the reference by digest.

  python -m runtimes.oci push ./dataset registry.example.com/team/dataset:v1

SOURCE_DATE_EPOCH sets the date that the image tells (default: 1970).
"""
INSPECT = """\
Print an image's manifest as JSON, with its digest.

  python -m runtimes.oci inspect registry.example.com/team/adapter:v1
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise Failure(Exit.SETTINGS, f"{message}; see {self.prog} --help")


def main(arguments: Sequence[str]) -> int:
    """Do what the command line says; the exit code."""
    try:
        options = _parser().parse_args(arguments)
        # Lines for people go to stderr: stdout is the answer.
        logs.configure("info", sys.stderr)
        answer: str = options.run(options)
    except Failure as failure:
        sys.stderr.write(f"runtimes.oci: {failure}\n")
        leave_word(TERMINATION_LOG, failure.message)
        return failure.code
    sys.stdout.write(f"{answer}\n")
    return Exit.DONE


def _pull(options: argparse.Namespace) -> str:
    reference = Reference.parse(options.reference)
    limits = Limits(bytes=options.max_bytes)
    pulled = registry.pull(reference, options.folder, _access(options), limits)
    return f"{reference.at(pulled.digest)}: {len(pulled.files)} files in {options.folder}"


def _push(options: argparse.Namespace) -> str:
    reference = Reference.parse(options.reference)
    return registry.push_files(
        _files(options.folder),
        reference,
        _access(options),
        annotations=dict(options.annotation),
        epoch=int(os.environ.get("SOURCE_DATE_EPOCH") or 0),
    )


def _inspect(options: argparse.Namespace) -> str:
    found = registry.inspect(Reference.parse(options.reference), _access(options))
    return json.dumps(found, indent=2)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise Failure(Exit.SETTINGS, f"{folder} is not a folder")
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    if not found:
        raise Failure(Exit.SETTINGS, f"{folder} holds no files")
    return found


def _access(options: argparse.Namespace) -> registry.Access:
    configs: list[Path] = list(options.docker_config)
    if not configs and (ambient := os.environ.get("DOCKER_CONFIG")):
        file = Path(ambient, "config.json")
        configs = [file] if file.exists() else []
    return registry.Access(configs, options.insecure_registry, options.timeout)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="python -m runtimes.oci",
        description="Move files (adapters, datasets) as images to and from registries.",
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verbs = parser.add_subparsers(
        title="verbs", metavar="VERB", required=True, parser_class=_Parser
    )
    pull = _verb(verbs, "pull", "unpack an image's /data into a folder", PULL)
    pull.add_argument("reference", metavar="REF", help="HOST/NAME:TAG or HOST/NAME@sha256:DIGEST")
    pull.add_argument("folder", metavar="FOLDER", type=Path, help="made if it is missing")
    pull.add_argument(
        "--max-bytes",
        metavar="N",
        type=int,
        default=Limits.bytes,
        help="refuse an image with more than this, unpacked (default: %(default)s)",
    )
    pull.set_defaults(run=_pull)
    push = _verb(verbs, "push", "push a folder's files as an image", PUSH)
    push.add_argument("folder", metavar="FOLDER", type=Path, help="all files in it are pushed")
    push.add_argument("reference", metavar="REF", help="HOST/NAME:TAG")
    push.add_argument(
        "--annotation",
        metavar="NAME=VALUE",
        type=_pair,
        action="append",
        default=[],
        help="add this to the manifest (repeatable)",
    )
    push.set_defaults(run=_push)
    look = _verb(verbs, "inspect", "print an image's manifest", INSPECT)
    look.add_argument("reference", metavar="REF")
    look.set_defaults(run=_inspect)
    return parser


def _verb(
    verbs: "argparse._SubParsersAction[_Parser]", name: str, summary: str, text: str
) -> argparse.ArgumentParser:
    parser = verbs.add_parser(
        name,
        help=summary,
        description=text,
        epilog=EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--docker-config",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="a file like ~/.docker/config.json, such as a mounted pull secret (repeatable: logins are "
        "tried in turn; default: $DOCKER_CONFIG/config.json)",
    )
    parser.add_argument(
        "--insecure-registry",
        metavar="HOST[:PORT]",
        action="append",
        default=[],
        help="speak plain HTTP, or HTTPS with any certificate, to this host (repeatable)",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=float,
        default=registry.Access.seconds,
        help="longest time for one transfer (default: %(default)s)",
    )
    return parser


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _ended(number: int, frame: FrameType | None) -> NoReturn:
    """As an exception, so that skopeo ends with us and no half image stays."""
    del frame
    raise SystemExit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _ended)
    sys.exit(main(sys.argv[1:]))
