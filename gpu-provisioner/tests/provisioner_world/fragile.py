"""`python -m provisioner_world.fragile`: the provisioner, which dies by SIGKILL at a chosen step.

`DIE_AT` names the step as ACTION:N:WHEN: the N-th time that this action is carried out, `before` it,
or `after` it, when what it did is done and nobody has heard of it. `Write` is a single write of a
claim's place. Without `DIE_AT` nothing happens.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

from gpu_provisioner.__main__ import main
from gpu_provisioner.claims.execute import Executor
from gpu_provisioner.pools.execute import PoolExecutor
from gpu_provisioner.pools.notes import Notes

Step = Callable[..., Awaitable[Any]]


class Death:
    """Counts down to the step."""

    def __init__(self, text: str) -> None:
        self._name, number, self._when = text.split(":")
        self._left = int(number)

    def around(self, step: Step, name_of: Callable[..., str]) -> Step:
        """The step, which may not be survived."""

        async def carried_out(*given: Any, **named: Any) -> Any:
            mine = name_of(*given) == self._name
            self._left -= mine
            fatal = mine and self._left == 0
            if fatal and self._when == "before":
                _die()
            answer = await step(*given, **named)
            if fatal and self._when == "after":
                _die()
            return answer

        return carried_out


def _die() -> NoReturn:
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives this")


def arm(death: Death) -> None:
    """Puts death around every step that changes anything."""

    def name_of(_executor: object, _about: object, action: object) -> str:
        return type(action).__name__

    for part, method in ((Executor, "carry_out"), (PoolExecutor, "carry_out")):
        setattr(part, method, death.around(getattr(part, method), name_of))
    setattr(Notes, "write", death.around(Notes.write, lambda *_: "Write"))  # noqa: B010


if __name__ == "__main__":
    if chosen := os.environ.get("DIE_AT"):
        arm(Death(chosen))
    sys.exit(main())
