"""The command line of the conformance suite: `python -m conformance --help`.

Invariant: status 0 means that every behaviour is kept or its difference explained.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from conformance.provisioners import named
from conformance.report import Report
from conformance.run import run
from conformance.suite import BOTH, Kind
from controlkit.log import configure
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.progress import Progress
from sandbox.errors import SandboxError

EPILOGUE = """\
examples:
  python -m conformance                                   # the gpu-provisioner of this repository
  python -m conformance --provisioner karpenter-kwok      # upstream Karpenter, built with Go once
  python -m conformance --only 31,33 --claim-api machine  # two behaviours, one API

  # A provisioner of your own. It finds KUBECONFIG, HEALTH_PROBE_PORT, METRICS_PORT and the
  # settings of an emulated Azure (ARM_ENDPOINT, AZURE_AUTHORITY_HOST, …) in its environment:
  python -m conformance --provisioner './my-provisioner --verbose' --cloud none \\
    --claim-api nodeclaim --node-class example.com/MyNodeClass/default

docs/conformance.md says what a provisioner promises and how to read the report.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the suite; returns the exit status."""
    arguments = _parser().parse_args(argv)
    configure("error")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    progress = Progress()
    report: Report | None = None
    try:
        report = _judged(arguments, progress)
    except* SandboxError as group:
        sys.stderr.writelines(f"error: {error}\n" for error in group.exceptions)
    if report is None:
        return 2
    text = report.text()
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(text + "\n", encoding="utf-8")
    print(text)
    progress.say(f"the report is in {arguments.report}")
    return 0 if report.passed else 1


def _judged(arguments: argparse.Namespace, progress: Progress) -> Report:
    kinds = _kinds(arguments.claim_api)
    provisioner = named(
        arguments.provisioner,
        kinds=kinds,
        node_class=arguments.node_class,
        aks=arguments.cloud == "aks",
    )
    served = tuple(kind for kind in kinds or provisioner.kinds if kind in provisioner.kinds)
    only = tuple(filter(None, arguments.only.replace(" ", "").split(",")))
    provisioner.build()
    return run_interruptibly(run(provisioner, served, only, progress.say))


def _kinds(text: str) -> tuple[Kind, ...]:
    kinds = tuple(filter(None, text.replace(" ", "").split(",")))
    if unknown := set(kinds) - set(BOTH):
        raise SandboxError(f"--claim-api names {', '.join(unknown)}; it is {' or '.join(BOTH)}")
    return cast("tuple[Kind, ...]", kinds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Says which of the behaviours that a Workspace counts on a provisioner keeps.",
        epilog=EPILOGUE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--provisioner",
        default="ours",
        metavar="NAME|COMMAND",
        help="ours, karpenter-kwok, or a command line (%(default)s)",
    )
    parser.add_argument(
        "--claim-api", default="", metavar="KIND,KIND", help="machine, nodeclaim (all it serves)"
    )
    parser.add_argument(
        "--node-class", default="", metavar="GROUP/KIND/NAME", help="a command's NodeClass"
    )
    parser.add_argument(
        "--cloud",
        choices=("aks", "none"),
        default="aks",
        help="whether a command works on the emulated AKS (%(default)s)",
    )
    parser.add_argument("--only", default="", metavar="N,N", help="numbers of behaviours (all)")
    parser.add_argument(
        "--report",
        type=Path,
        default=Path("conformance-report.md"),
        metavar="FILE",
        help="where the report goes (%(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
