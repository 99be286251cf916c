"""Remembers which workloads the API server has accepted before a node was asked for.

Invariant: what only the API server can judge is asked once for each version of a Workspace; after a
restart it may be asked once more, and only where nodes are still to be bought.
"""

from gpuapis.workspace import Workspace
from workspace_controller.manifests.model import Model


def written_by_user(model: Model) -> bool:
    """Whether the workload holds parts that no schema of ours has checked."""
    return model.preset is None or any(each.volume is not None for each in model.adapters)


class Vetting:
    """The hash of the last workload that was accepted, by Workspace."""

    def __init__(self) -> None:
        self._accepted: dict[str, str] = {}

    def has_passed(self, workspace: Workspace, digest: str) -> bool:
        """Whether that workload was accepted."""
        return self._accepted.get(workspace.metadata.uid) == digest

    def accept(self, workspace: Workspace, digest: str) -> None:
        """Notes that it was."""
        self._accepted[workspace.metadata.uid] = digest

    def forget(self, workspace: Workspace) -> None:
        """Drops what is known of a Workspace that goes."""
        self._accepted.pop(workspace.metadata.uid, None)
