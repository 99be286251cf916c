"""Applies many Workspaces at once and measures how the workspace controller takes it.

Runs in a sandbox of its own at level 1 (real control plane, kwok for nodes and pods, the charts'
RBAC and webhook), made for it and removed again. Each claim gets a Ready GPU node a fixed time
after it appears, so that time is the floor of all that follows. Figures count from just before
the first Workspace is applied, as a watch of the API server shows them.
"""

import argparse
from dataclasses import dataclass

from sandbox.bench.crowd import ClaimApi, crowd
from sandbox.bench.readings import Cost, report
from sandbox.bench.writes import writes
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.errors import SandboxError


@dataclass(frozen=True)
class Storm:
    """What is to be measured; times in seconds."""

    total: int
    node_seconds: float
    claim_api: ClaimApi
    patience: float


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares the storm's size and its floor."""
    parser.add_argument("--n", type=int, default=100, help="Workspaces (default 100)")
    parser.add_argument(
        "--node-seconds", type=float, default=30.0, help="claim to Ready node (default 30)"
    )
    parser.add_argument("--claim-api", choices=("machine", "nodeclaim"), default="machine")
    parser.add_argument(
        "--patience", type=float, help="give up after this many seconds (default 300 + N/2)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Runs the storm; status 1 when not every Workspace became Ready."""
    if arguments.n < 1 or arguments.node_seconds < 0:
        raise SandboxError("--n must be at least 1 and --node-seconds at least 0")
    patience = arguments.patience or 300 + arguments.n / 2
    storm = Storm(arguments.n, arguments.node_seconds, arguments.claim_api, patience)
    return run_interruptibly(_storm(storm))


async def _storm(storm: Storm) -> int:
    async with crowd(
        storm.total, node_seconds=storm.node_seconds, claim_api=storm.claim_api
    ) as cluster:
        kubeconfig = cluster.folder / "kubeconfig"
        before, written = Cost.of(cluster.controller), await writes(kubeconfig)
        applied = await cluster.apply(storm.total)
        ready = await cluster.all_ready(storm.patience)
        after, each = Cost.of(cluster.controller), await writes(kubeconfig) - written
        cluster.progress.say(
            f"{storm.total} Workspaces, a node {storm.node_seconds:g} s after its claim\n"
        )
        table = report(cluster.readings, applied, before, after, each)
        print(table + "\n", flush=True)
    if not ready:
        cluster.progress.say("not every Workspace became Ready")
    return 0 if ready else 1
