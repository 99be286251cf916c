"""What integration tests of the workspace controller stand on."""

from workspace_world.bench import Bench
from workspace_world.process import ControllerProcess
from workspace_world.world import World

__all__ = ["Bench", "ControllerProcess", "World"]
