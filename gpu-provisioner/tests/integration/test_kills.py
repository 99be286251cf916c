"""The provisioner killed with SIGKILL at step after step of one life.

However it is cut up, each claim comes to have one VM, no request to Azure adds a VM twice, and in
the end nothing is left. docs/adr/0017 lists the steps; those that cost nothing and ask for nothing are
left to the state machine test.
"""

import pytest
from provisioner_world.bench import Bench
from provisioner_world.sharing import Sharing

FRAGILE = "provisioner_world.fragile"

CREATION = (
    "Hold:1:after",
    "Write:1:after",
    "CreatePool:1:before",
    "CreatePool:1:after",
    "Bind:1:after",
    "RegisterNode:1:after",
)
GROWTH = ("Write:1:before", "GrowPool:1:before", "GrowPool:1:after")
REMOVAL = (
    "Leave:1:before",
    "DeleteMachines:1:before",
    "DeleteMachines:1:after",
    "ReleaseNode:1:after",
    "LetGo:1:before",
    "Release:1:before",
)
ALONE = ("CreatePool:1:after", "Bind:1:before", "RegisterNode:1:before")
ALONE_REMOVAL = ("DeletePool:1:before", "DeletePool:1:after", "ConfirmGone:1:before")


def die(bench: Bench, steps: tuple[str, ...], mode: str) -> None:
    """One process after another, each killed at its step."""
    for step in steps:
        bench.provisioner.start(FRAGILE, POOL_MODE=mode, DIE_AT=step)
        bench.provisioner.died(step)


async def test_a_shared_life_survives_death_after_death(world: Bench) -> None:
    sharing = Sharing(world)
    world.provisioner.stop()
    names = await sharing.create(3)
    die(world, CREATION, "shared")
    world.provisioner.start(POOL_MODE="shared")
    await sharing.all_ready(names)
    # One that was held early may have gone ahead of the others; nobody was asked for twice.
    assert sum((await sharing.pools()).values()) == 3

    world.provisioner.stop()
    names += await sharing.create(2)
    die(world, GROWTH, "shared")
    world.provisioner.start(POOL_MODE="shared")
    await sharing.all_ready(names)
    assert sum((await sharing.pools()).values()) == 5

    world.provisioner.stop()
    for name in names[:2]:
        await world.delete(name)
    die(world, REMOVAL, "shared")
    world.provisioner.start(POOL_MODE="shared")
    await sharing.none_left(names[:2])
    await sharing.all_ready(names[2:])
    assert sum((await sharing.pools()).values()) == 3


async def test_a_dedicated_life_survives_death_after_death(world: Bench) -> None:
    sharing = Sharing(world)
    world.provisioner.stop()
    name = await world.create()
    die(world, ALONE, "dedicated")
    world.provisioner.start()
    await sharing.all_ready([name])
    assert await world.control.created_pools() == [name]

    world.provisioner.stop()
    await world.delete(name)
    die(world, ALONE_REMOVAL, "dedicated")
    world.provisioner.start()
    await world.is_gone(name)


@pytest.mark.parametrize("step", ["DeletePool:1:before", "DeletePool:1:after"])
async def test_the_end_of_a_failed_pool_survives_death(world: Bench, step: str) -> None:
    sharing = Sharing(world)
    world.provisioner.stop()
    await world.control.inject("fail", verb="PUT", error="internal-late", seconds=5)
    names = await sharing.create(2)
    die(world, (step,), "shared")
    world.provisioner.start(POOL_MODE="shared")
    await sharing.all_ready(names)
    assert sum((await sharing.pools()).values()) == 2
