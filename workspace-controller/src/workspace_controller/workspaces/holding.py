"""How a writer makes the next pass on a Workspace wait until a cache shows what was written."""

from collections.abc import Callable
from typing import Any

from controlkit.cache import Cache
from controlkit.kube.objects import Key

Hold = Callable[[Key, Cache[Any], Key, str], None]
"""Given the Workspace's key, the cache, the written object's key and its new resourceVersion."""
