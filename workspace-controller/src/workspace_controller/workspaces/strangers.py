"""Keeps us from writing into objects that somebody else made under the name of one of ours.

Invariant: the API server itself is asked, for a cache holds only what carries our label.
"""

from controlkit.errors import Blocked
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, KubeObject, metadata_only
from gpuapis.workspace import Workspace
from workspace_controller.workspaces import reasons
from workspace_controller.workspaces.children import owner_of


async def refuse_strangers(
    client: KubeClient, view: type[KubeObject], workspace: Workspace, key: Key
) -> None:
    """Looks whose the object is; applying would merge our fields into a stranger's.

    Raises:
        Blocked: it is there and is not the Workspace's.
        ControlError: the API server cannot be asked.
    """
    found = await client.get(metadata_only(view.RESOURCE), key)
    if found is not None and owner_of(found, workspace) != "ours":
        raise Blocked(
            reasons.NAME_TAKEN,
            f"a {view.RESOURCE.kind} {key} exists and is not ours. Delete it, or delete this "
            "Workspace and give it another name.",
            retry_after=60.0,
        )
