"""What a Workspace is to serve, with everything that it refers to resolved.

Invariant: plain values only, so that the same Model always makes the same manifests.
"""

from dataclasses import dataclass
from typing import Literal

from workspace_controller.manifests.adapters import Adapter
from workspace_controller.presets.catalog import Engine, Preset

WorkloadKind = Literal["Deployment", "StatefulSet"]


@dataclass(frozen=True)
class Model:
    """A preset with its parts, or a template of the user's own."""

    preset: Preset | None = None
    """None for a template."""
    nodes: int = 1
    """Nodes that one copy of the model is spread over."""
    gpus: int = 1
    """GPUs that each pod of a preset gets."""
    engine: Engine | None = None
    """The only engine that it fits with; None when the choice is free."""
    memory_percent: int | None = None
    """The share of a GPU's memory that vLLM may use; None leaves it to the runtime."""
    adapters: tuple[Adapter, ...] = ()
    config: str = ""
    """The digest of the server's settings; "" when the Workspace names none."""

    @property
    def spread(self) -> bool:
        """Whether one copy needs more than one node."""
        return self.nodes > 1

    @property
    def kind(self) -> WorkloadKind:
        """The kind of workload that serves it."""
        return "StatefulSet" if self.spread else "Deployment"


@dataclass(frozen=True)
class ModelSource:
    """Where images and weights come from; set once for the whole installation."""

    registry: str
    """The registry and path that hold the runtime image, without a trailing slash."""
    tag: str
    hub: str = ""
    """Address of the model hub; "" for the runtime's default."""
    insecure_registries: tuple[str, ...] = ()
    """Registries, as host:port, that adapters may be pulled from over plain HTTP."""
    private_data: bool = False
    """Whether training data may come from private addresses, the machine's own included."""
