"""Creates many claims at once and measures how the gpu-provisioner serves them.

Each row runs on a control plane, an emulated Azure and a provisioner of its own. An operation on a
pool takes 20 s, its nodes are Ready at its end and show their GPUs 5 s later: 25 s is the floor.
Figures count from just before the first claim is created, as a watch of the API server shows them;
calls are those that the emulated Azure has logged. While claims are served, others that can be
refused at once are created one after the other, and how long they wait for that is measured.
"""

import argparse
import asyncio
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from controlkit.cache import Cache
from controlkit.kube.client import KubeClient
from controlkit.kube.reflector import Reflector
from controlkit.log import configure as configure_log
from gpuapis import labels
from gpuapis.machine import Machine
from sandbox.bench.served import Figures, Served, memory
from sandbox.bench.stage import Stage, stage
from sandbox.cluster.interrupts import run_interruptibly
from sandbox.cluster.progress import Progress
from sandbox.errors import SandboxError

SIZE: Final = "Standard_NC24ads_A100_v4"
CREATED_AT_ONCE: Final = 32
YOUNG_CRD_SECONDS: Final = 3.0
"""The API server holds every create of a kind back that it has served for less than 2 s."""


@dataclass(frozen=True)
class Row:
    """One measurement, and what it must reach.

    Attributes:
        claims: how many are created at once.
        shared: whether they share pools.
        throttled: whether AKS's request limits hold.
        seconds: until the last claim is Ready.
        calls: for each claim, to Azure.
        puts: in all.
        pools: in all.
        idle: seconds of rest that are measured afterwards.
    """

    claims: int
    shared: bool = False
    throttled: bool = False
    seconds: float = 0.0
    calls: float = 0.0
    puts: int = 0
    pools: int = 0
    idle: float = 0.0


ROWS: Final[dict[str, Row]] = {
    "dedicated-30": Row(30, seconds=28, calls=3),
    # With the cluster's own pool, as many as AKS allows.
    "dedicated-99": Row(99, seconds=35, calls=3),
    "shared-30": Row(30, shared=True, throttled=True, seconds=45, puts=5),
    "shared-100": Row(100, shared=True, throttled=True, seconds=60, puts=5),
    "shared-1000": Row(1000, shared=True, throttled=True, seconds=180, pools=10, idle=60.0),
}
LATE_SECONDS: Final = 5.0
IDLE_LIST_SECONDS: Final = 10.0
RSS_MB: Final = 150.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Declares which rows to run."""
    parser.add_argument(
        "--row",
        action="append",
        choices=sorted(ROWS),
        help="run this row; may be repeated (default: all of them)",
    )
    parser.add_argument(
        "--patience", type=float, default=600.0, help="give a row up after so many seconds (600)"
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders with all logs")


def run(arguments: argparse.Namespace) -> int:
    """Prints a table; status 1 when a figure misses its target."""
    if arguments.patience <= 0:
        raise SandboxError("--patience must be more than 0")
    configure_log("error")
    chosen = {name: ROWS[name] for name in arguments.row or ROWS}
    return run_interruptibly(_rows(chosen, arguments.patience, keep=arguments.keep))


async def _rows(rows: dict[str, Row], patience: float, *, keep: bool) -> int:
    progress, well = Progress(), True
    tables: list[str] = []
    for name, row in rows.items():
        folder = Path(tempfile.mkdtemp(prefix=f"bench-{name}-"))
        progress.say(f"{name}: {row.claims} claims, load {os.getloadavg()[0]:.1f}")
        async with stage(folder, shared=row.shared, throttled=row.throttled) as running:
            figures = await _measure(row, running, patience, progress)
        table, reached = report(name, row, figures)
        tables.append(table)
        well &= reached
        progress.say("\n" + table)
        if reached and not keep:
            shutil.rmtree(folder)
        else:
            progress.say(f"logs are in {folder}")
    if len(tables) > 1:
        print("\n\n".join(tables), flush=True)
    return 0 if well else 1


async def _measure(row: Row, running: Stage, patience: float, progress: Progress) -> Figures:
    async with await KubeClient.connect(
        user_agent="bench", field_manager="bench", kubeconfig=running.kubeconfig
    ) as client:
        machines, served = Cache(Machine), Served(row.claims)
        served.follow(machines)
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(Reflector(client, machines).run())
            await machines.synced.wait()
            await asyncio.sleep(YOUNG_CRD_SECONDS)
            others = group.create_task(_create_others(client, served))
            served.start()
            await _create(client, row.claims)
            await served.all_ready(patience, progress.say)
            others.cancel()
            figures = served.figures(memory(running.provisioner.pid), os.getloadavg()[0])
            figures.count(await running.control.calls(), await running.control.pools())
            if row.idle and served.done.is_set():
                await _rest(row.idle, running, figures, progress)
            watching.cancel()
    return figures


async def _create(client: KubeClient, count: int) -> None:
    gate = asyncio.Semaphore(CREATED_AT_ONCE)

    async def create(number: int) -> None:
        async with gate:
            await client.create(Machine.RESOURCE, claim(f"ws{number:09x}"))

    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(create(number))


async def _create_others(client: KubeClient, served: Served) -> None:
    """Creates claims that ask for nothing, one a second, which are to be told so at once."""
    number = 0
    while True:
        number += 1
        name = f"other{number}"
        served.expect(name)
        await client.create(Machine.RESOURCE, claim(name, size=None))
        await asyncio.sleep(1.0)


async def _rest(seconds: float, running: Stage, figures: Figures, progress: Progress) -> None:
    # What has just happened is still looked after for a while.
    settle = 30.0
    progress.say(f"all Ready; measuring {seconds:g} s of rest after {settle:g} s")
    await asyncio.sleep(settle)
    before = await running.control.calls()
    await asyncio.sleep(seconds)
    after = await running.control.calls()
    figures.rested(seconds, after[len(before) :], memory(running.provisioner.pid))


def claim(name: str, size: str | None = SIZE) -> dict[str, Any]:
    """A claim as the workspace controller writes it; without a size nobody can serve it."""
    requirements = [(labels.OS, "linux"), (labels.ARCH, "amd64")]
    requirements += [(labels.INSTANCE_TYPE, size)] if size else []
    return {
        "metadata": {
            "name": name,
            "labels": {
                labels.WORKSPACE: f"model-{name}",
                labels.WORKSPACE_NAMESPACE: "default",
                labels.PROVISIONER_NAME: "default",
                "apps": f"model-{name}",
            },
        },
        "spec": {
            "machineTemplateRef": {"name": name},
            "requirements": [
                {"key": key, "operator": "In", "values": [value]} for key, value in requirements
            ],
            "resources": {"requests": {"storage": "120Gi", labels.GPU_RESOURCE: "1"}},
            "taints": [
                {"key": labels.SKU_TAINT, "value": labels.SKU_TAINT_VALUE, "effect": "NoSchedule"}
            ],
        },
    }


def report(name: str, row: Row, figures: Figures) -> tuple[str, bool]:
    """The table of a row, and whether every figure reaches its target."""
    ready, late = figures.last_ready, figures.latest_other
    lines: list[tuple[str, str, str, bool]] = [
        ("all claims created", f"{figures.created:.1f} s", "", True),
        ("Ready, median", f"{figures.median_ready:.1f} s", "", True),
        ("Ready, last", f"{ready:.1f} s", f"{row.seconds:g} s", ready <= row.seconds),
        ("Ready", f"{figures.ready} of {row.claims}", "", figures.ready == row.claims),
        (
            "PUTs",
            f"{figures.puts}",
            f"{row.puts}" if row.puts else "",
            _within(figures.puts, row.puts),
        ),
        (
            "pools",
            f"{figures.pools}",
            f"{row.pools}" if row.pools else "",
            _within(figures.pools, row.pools),
        ),
        ("VMs", f"{figures.vms}", f"{row.claims}", figures.vms == row.claims),
        (
            "calls to Azure per claim",
            f"{figures.calls / row.claims:.2f}",
            f"{row.calls:g}" if row.calls else "",
            _within(figures.calls / row.claims, row.calls),
        ),
        ("calls refused with 429", f"{figures.throttled}", "0", figures.throttled == 0),
        ("other claims told, latest", f"{late:.1f} s", f"{LATE_SECONDS:g} s", late <= LATE_SECONDS),
        ("RSS peak", f"{figures.rss_peak:.0f} MB", f"{RSS_MB:g} MB", figures.rss_peak <= RSS_MB),
        ("CPU", f"{figures.cpu:.1f} s", "", True),
        ("load", f"{figures.load:.1f}", "", True),
    ]
    if figures.rest is not None:
        pace = figures.rest.seconds / max(1, figures.rest.lists)
        lines += [
            (
                "at rest: one LIST every",
                f"{pace:.0f} s",
                f"{IDLE_LIST_SECONDS:g} s",
                pace >= IDLE_LIST_SECONDS,
            ),
            ("at rest: other calls", f"{figures.rest.others}", "0", figures.rest.others == 0),
            (
                "at rest: RSS",
                f"{figures.rest.rss:.0f} MB",
                f"{RSS_MB:g} MB",
                figures.rest.rss <= RSS_MB,
            ),
        ]
    width = max(len(line[0]) for line in lines)
    text = [f"{name:<{width}}  {'measured':>12}  {'target':>8}"]
    for what, measured, target, well in lines:
        text.append(f"{what:<{width}}  {measured:>12}  {target:>8}{'' if well else '  MISSED'}")
    return "\n".join(text), all(line[3] for line in lines)


def _within(measured: float, target: float) -> bool:
    return not target or measured <= target
