"""Scale, restart and availability: many claims, and processes that come and go."""

import asyncio
from typing import Final

from conformance.history import told
from conformance.suite import behaviour
from conformance.trial import Trial, require
from gpuapis import labels

GROUP: Final = "Scale, restart, availability"
STORM: Final = 50
SPEED: Final = 60.0
"""At this speed AKS takes a PUT a second after the first twenty."""
STATUS_SECONDS: Final = 5.0
CALLS: Final = 20
"""A claim hears something within that time, and as many calls to the API server as this: on a busy
machine everything takes longer."""


@behaviour("40", GROUP, "50 claims at once: within AKS's rate, and nobody is starved", alone=True)
async def storm(trial: Trial) -> str:
    """Switches the throttle on and measures how late other claims are told something."""
    aks = trial.world.provisioner.aks
    if aks:
        await trial.control.set(throttle=True, speed=SPEED)
        await trial.world.restart({"writes-per-minute": f"{SPEED:g}"})
    earlier = max((int(call["number"]) for call in await trial.control.calls()), default=0)
    clock = asyncio.get_running_loop()
    began = clock.time()
    names = [await trial.create() for _ in range(STORM)]
    words = [await _first_word(trial) for _ in range(8)]
    for name in names:
        await trial.becomes(name, "Launched", seconds=150)
    took = clock.time() - began
    refused = await trial.control.calls("PUT", status=429, after=earlier) if aks else []
    # So many would take a provisioner that keeps to AKS's rate minutes to remove.
    await trial.world.stop()
    await trial.clean(patience=0)
    await trial.control.set(throttle=None, speed=None)
    await trial.world.start()
    require(not refused, f"AKS refused {len(refused)} PUTs with 429")
    worst, call = max(words)
    told_of = f"first word to others after {worst:.1f} s at most, with calls that took {call:.2f} s"
    require(worst < STATUS_SECONDS + CALLS * call, told_of)
    return f"{STORM} launched in {took:.0f} s{', no 429' if aks else ''}; {told_of}"


async def _first_word(trial: Trial) -> tuple[float, float]:
    """Makes a claim; returns the seconds until its status says something, and those of a call."""
    clock = asyncio.get_running_loop()
    began = clock.time()
    name = await trial.create()
    calls: list[float] = []

    async def heard() -> bool:
        asked = clock.time()
        claim = await trial.claim(name)
        calls.append(clock.time() - asked)
        return claim is not None and bool(claim.status.conditions)

    await trial.until(heard, "a further claim is told something")
    return clock.time() - began, sum(calls) / len(calls)


@behaviour(
    "41", GROUP, "A restart in the middle of ten operations finishes all, asking once", alone=True
)
async def restart(trial: Trial) -> str:
    """Kills the provisioner while ten machines are being made."""
    names = [trial.name() for _ in range(10)]
    for name in names:
        await trial.control.inject("slow", pool=name, factor=3)
        await trial.create(name)

    async def all_asked() -> bool:
        return all([await trial.machines(name) for name in names])

    await trial.until(all_asked, "all ten are being made")
    await trial.world.restart()
    for name in names:
        await trial.becomes(name, seconds=60)
    counts = {name: await trial.machines(name) for name in names}
    require(set(counts.values()) == {1}, f"machines: {counts}")
    if trial.world.provisioner.aks:
        accepted = [(await trial.asked(name)).count(201) for name in names]
        require(set(accepted) == {1}, f"accepted creates: {accepted}")
    return "10 Ready, 1 machine each, no second create"


@behaviour(
    "42", GROUP, "Of two replicas one acts, and the other takes over within 30 s", alone=True
)
async def replicas(trial: Trial) -> str:
    """Kills the one that leads."""
    await trial.world.stop()
    first = await trial.world.start({"elect": "true"})
    before = await trial.create()
    await trial.becomes(before, seconds=60)
    await trial.world.start({"elect": "true"}, ready=False)
    await asyncio.sleep(3)
    beside = await trial.create()
    await trial.becomes(beside)
    require(await trial.machines(beside) == 1, "both made a machine")
    await first.kill()
    clock = asyncio.get_running_loop()
    began = clock.time()
    after = await trial.create()
    await trial.until(lambda: _served(trial, after), "the other one serves the claim", 45)
    took = clock.time() - began
    await trial.becomes(after)
    await trial.world.restart()
    require(took < 30, f"it took {took:.0f} s")
    return f"one machine with two replicas; served {took:.1f} s after the leader was killed"


async def _served(trial: Trial, name: str) -> bool:
    claim = await trial.claim(name)
    return claim is not None and labels.TERMINATION_FINALIZER in claim.metadata.finalizers


@behaviour("46", GROUP, "Events are told once and counted, not repeated", aks=True)
async def events(trial: Trial) -> str:
    """Lets one cause last over several tries."""
    name = trial.name()
    await trial.control.inject("error", error="quota-family", pool=name, count=None)
    await trial.create(name)
    await trial.says(name, "QuotaExceeded")
    await asyncio.sleep(4)
    told_of = [(each["type"], each["reason"]) for each in await trial.events(name)]
    twice = {each for each in told_of if told_of.count(each) > 1}
    require(not twice, f"told more than once: {twice}")
    require(bool(told_of), "no Event at all")
    return ", ".join(f"{reason} ({kind})" for kind, reason in told_of)


@behaviour("47", GROUP, "SIGTERM ends it within 10 s, whatever is on the way", alone=True)
async def sigterm(trial: Trial) -> str:
    """Asks it to end while a call to its cloud hangs."""
    name = trial.name()
    await trial.control.inject("hang", verb="PUT", pool=name)
    await trial.create(name)
    await asyncio.sleep(0.7)
    took = await trial.world.replicas[-1].end()
    halves = [state for state in trial.states(name) if told(state, "Launched").status == ""]
    written = [state for state in halves if state.status.conditions]
    require(not written, "a status was written by half")
    require(took < 10, f"it had to be killed after {took:.0f} s")
    await trial.world.restart()
    await trial.becomes(name, seconds=60)
    return f"ended after {took:.1f} s; the claim became Ready afterwards"
