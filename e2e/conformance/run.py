"""Brings all behaviours about: those that get along beside each other, then the others in turn.

Invariant: each behaviour gets a trial of its own, and the trial is cleaned before its verdict
counts.
"""

import asyncio
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import conformance.behaviours  # noqa: F401  (enters them into the list)
from conformance.provisioners import Provisioner
from conformance.report import NAMES, Report
from conformance.suite import Behaviour, Kind, Outcome, chosen, judge
from conformance.trial import Trial
from conformance.world import World, world

AT_ONCE = 8


async def run(
    provisioner: Provisioner,
    kinds: Sequence[Kind],
    only: Sequence[str],
    say: Callable[[str], None],
) -> Report:
    """Judges a provisioner.

    Raises:
        sandbox.errors.SandboxError: a number is unknown, or the world can't be built.
    """
    items = chosen(only)
    clock = asyncio.get_running_loop()
    began = clock.time()
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        say(f"a control plane, an emulated AKS and {provisioner.name}")
        async with world(provisioner, Path(folder)) as made:
            say(f"ready after {clock.time() - began:.0f} s; {len(items)} behaviours")
            outcomes = await _judge_all(made, items, kinds, say)
    return Report(provisioner.name, kinds, outcomes, clock.time() - began)


async def _judge_all(
    made: World, items: Sequence[Behaviour], kinds: Sequence[Kind], say: Callable[[str], None]
) -> list[Outcome]:
    gate = asyncio.Semaphore(AT_ONCE)
    pairs = [(item, kind) for item in items for kind in kinds if kind in item.kinds]

    async def one(item: Behaviour, kind: Kind) -> Outcome:
        async with gate:
            trial = Trial(made, kind)
            outcome = await judge(item, trial)
            await trial.clean()
        say(
            f"{outcome.number:>3} {NAMES[kind]:9} {outcome.verdict:14}"
            f" {outcome.seconds:5.1f} s  {item.title}"
        )
        return outcome

    async with asyncio.TaskGroup() as group:
        beside = [group.create_task(one(item, kind)) for item, kind in pairs if not item.alone]
    outcomes = [task.result() for task in beside]
    for item, kind in pairs:
        if item.alone:
            outcomes.append(await one(item, kind))
            await _put_in_order(made)
    return outcomes


async def _put_in_order(made: World) -> None:
    """Leaves the next one a world as at the start, whatever the last one broke off at."""
    control = made.aks.control
    await control.clear_faults()
    await control.set(throttle=None, speed=None)
    if len(made.replicas) != 1 or not made.replicas[0].process.alive():
        await made.restart()
