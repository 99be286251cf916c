"""What a tuning Workspace has made, for another that serves it.

Invariant: an image is named by its digest, so that what serves never changes under its name; of a
run that is not the latest wish's nothing is taken.
"""

from dataclasses import dataclass

from gpuapis.workspace import Workspace
from workspace_controller.presets.catalog import Catalog
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.facts import Problem


@dataclass(frozen=True)
class TunedImage:
    """An adapter in a registry."""

    reference: str
    """By its digest, where that is known."""
    pull_secrets: tuple[str, ...] = ()


def tuned_image(
    name: str, found: Workspace | None, served: str, catalog: Catalog
) -> TunedImage | Problem:
    """The image that a tuning Workspace has pushed, or why there is none to serve.

    Args:
        name: what `adapters[].source.workspace` says.
        found: the Workspace of that name, if there is one.
        served: the name of the preset that is to serve the adapter.
        catalog: knows which names mean one preset.
    """
    problem = _unfit(name, found, served, catalog) if found is not None else None
    if found is None or found.tuning is None or problem is not None:
        return problem or _never(f"Workspace {name} does not exist in this namespace: create it")
    status, output = found.status.tuning, found.tuning.output
    # While the latest wish cannot be run yet, the status still tells of the run before.
    seen = found.status.observed_generation == found.metadata.generation
    current = seen and found.status.state not in ("Pending", "Running")
    if status is None or status.result is None or not current:
        return _not_yet(f"waits until Workspace {name} has succeeded")
    if status.result == "Failed":
        return _never(f"Workspace {name} has failed: {status.message or status.reason}")
    image = status.image or output.image
    if image is None:
        return _never(
            f"Workspace {name} puts its result on a volume: name that volume in "
            "adapters[].source.volumeSource instead"
        )
    reference = f"{_without_tag(image)}@{status.digest}" if status.digest else image
    return TunedImage(reference, tuple(filter(None, (output.image_push_secret,))))


def _unfit(name: str, found: Workspace, served: str, catalog: Catalog) -> Problem | None:
    """Why what a Workspace makes can never serve; None when it can."""
    if found.tuning is None or found.tuning.preset is None:
        return _never(f"Workspace {name} serves a model and tunes none: name one with tuning")
    tuned = found.tuning.preset.name
    if catalog.find(tuned) is not catalog.find(served):
        return _never(f"Workspace {name} tunes {tuned}, which makes no adapter for {served}")
    return None


def _without_tag(image: str) -> str:
    """What pulls images takes a digest or a tag, not both; a registry's port is no tag."""
    path, slash, last = image.rpartition("/")
    return f"{path}{slash}{last.partition(':')[0]}"


def _not_yet(message: str) -> Problem:
    return Problem(reasons.ADAPTER_NOT_READY, f"inference.adapters: {message}", passing=True)


def _never(message: str) -> Problem:
    return Problem(reasons.ADAPTER_NOT_READY, f"inference.adapters: {message}")
