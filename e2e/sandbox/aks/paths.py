"""Which call a method and path are.

Invariant: pure; names are matched as ARM does, without regard to case, and returned as they came.
"""

import re
from typing import Final, NamedTuple

_GROUP = r"/subscriptions/(?P<subscription>[^/]+)/resourceGroups/(?P<group>[^/]+)"
_CLUSTER = _GROUP + r"/providers/Microsoft\.ContainerService/managedClusters/(?P<cluster>[^/]+)"
_POOL = _CLUSTER + r"/agentPools/(?P<pool>[^/]+)"
_LOCATION = (
    r"/subscriptions/(?P<subscription>[^/]+)/providers/Microsoft\.ContainerService"
    r"/locations/(?P<location>[^/]+)"
)
_COMPUTE = r"/subscriptions/(?P<subscription>[^/]+)/providers/Microsoft\.Compute"


class Route(NamedTuple):
    """A method and path, and the verb under which faults and the log know it."""

    method: str
    path: re.Pattern[str]
    verb: str


def _route(method: str, path: str, verb: str) -> Route:
    return Route(method, re.compile(path, re.IGNORECASE), verb)


ROUTES: Final = (
    _route("POST", r"/(?P<tenant>[^/]+)/oauth2(/v2\.0)?/token", "TOKEN"),
    _route("PUT", _POOL, "PUT"),
    _route("GET", _POOL, "GET"),
    _route("GET", _CLUSTER + "/agentPools", "LIST"),
    _route("DELETE", _POOL, "DELETE"),
    _route("POST", _POOL + "/abort", "ABORT"),
    _route("POST", _POOL + "/deleteMachines", "DELETE_MACHINES"),
    _route("POST", _POOL + "/upgradeNodeImageVersion", "UPGRADE"),
    _route("GET", _POOL + "/machines(/(?P<machine>[^/]+))?", "MACHINES"),
    _route("GET", _LOCATION + "/(?P<kind>operations)/(?P<operation>[^/]+)", "OPERATION"),
    _route("GET", _LOCATION + "/(?P<kind>operationresults)/(?P<operation>[^/]+)", "OPERATION"),
    _route("GET", _CLUSTER, "CLUSTER"),
    _route("GET", _COMPUTE + "/locations/(?P<location>[^/]+)/usages", "USAGES"),
    _route("GET", _COMPUTE + "/skus", "SKUS"),
)


class Match(NamedTuple):
    """What a path says."""

    verb: str
    names: dict[str, str]


def matched(method: str, path: str) -> Match:
    """Returns the call; its verb is OTHER when the emulator serves nothing there."""
    for route in ROUTES:
        found = route.path.fullmatch(path) if route.method == method else None
        if found is not None:
            return Match(route.verb, {k: v for k, v in found.groupdict().items() if v})
    return Match("OTHER", {})
