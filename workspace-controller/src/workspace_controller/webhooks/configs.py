"""Reads the ConfigMap that a Workspace names, while the API server waits for the verdict.

Invariant: it answers within its deadline, whatever the API server does, and never raises.
"""

from dataclasses import dataclass
from typing import Final

from controlkit.errors import ControlError
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key
from gpuapis.core import ConfigMap
from workspace_controller.rules.configs import ConfigRead

DEADLINE: Final = 2.0
"""Seconds; the API server gives the whole review five."""


@dataclass(frozen=True)
class ConfigReader:
    """Reads ConfigMaps from the API server."""

    client: KubeClient

    async def __call__(self, key: Key) -> ConfigRead:
        """The ConfigMap as it is now; why not, if it cannot be read."""
        try:
            found = await self.client.get(ConfigMap, key, timeout=DEADLINE)
        except ControlError as error:
            return ConfigRead(key.name, trouble=error.message)
        return ConfigRead(key.name, None if found is None else found.data)
