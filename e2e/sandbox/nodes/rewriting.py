"""Changes a part of an object that others write to as well.

Invariant: nobody's change is lost: a write is refused when the object changed after it was read,
and then the change is worked out anew from what is there.
"""

from collections.abc import Callable
from typing import Final

from controlkit.errors import NotFound, Stale
from controlkit.kube.client import KubeClient
from controlkit.kube.objects import Key, Resource
from sandbox.nodes.objects import Manifest

TRIES: Final = 20


async def rewrite(
    client: KubeClient,
    resource: Resource,
    key: Key,
    patch: Callable[[Manifest], Manifest],
    *,
    subresource: str = "",
) -> bool:
    """Applies the merge patch that `patch` makes of the object as it is; False when it is gone.

    Raises:
        Stale: others wrote to it 20 times in a row in between.
        ControlError: refused, unreachable or late.
    """
    for _ in range(TRIES):
        try:
            present = await client.read(resource.path(key.namespace, key.name))
            change = patch(present)
            version = present["metadata"]["resourceVersion"]
            change.setdefault("metadata", {})["resourceVersion"] = version
            await client.merge_patch(resource, key, change, subresource=subresource)
        except NotFound:
            return False
        except Stale:
            continue
        return True
    raise Stale("Conflict", f"{resource.kind} {key} was changed by others {TRIES} times in a row")
