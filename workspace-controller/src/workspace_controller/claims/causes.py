"""What a claim's reason asks for: patience, attention, another attempt, or a person.

Invariant: only causes that a new node can cure lead to another attempt; every cause that we do not
know is shown and left to the provisioner.
"""

from collections.abc import Mapping
from typing import Final

from workspace_controller.workspaces.facts import Verdict

PROGRESS: Final = frozenset(
    {
        "",
        "AwaitingReconciliation",
        "KnownEphemeralTaintsExist",
        "MachineNotLaunched",
        "NodeNotFound",
        "NodeNotReady",
        "OperationInProgress",
        "PoolCreating",
        "ReconcilingDependents",
        "ResourceNotRegistered",
        "StartupTaintsExist",
        "Throttled",
        "UnhealthyDependents",
        "WaitingForNode",
    }
)
BLOCKED: Final = frozenset(
    {
        "AuthorizationFailed",
        "ClusterNotFound",
        "InsufficientCapacity",
        "LaunchFailed",
        "LinkFailed",
        "PoolLimitReached",
        "QuotaExceeded",
    }
)
BROKEN: Final = frozenset({"MultipleNodesFound", "NodeBootstrapFailed", "RegistrationTimeout"})
HOPELESS: Final = frozenset({"InstanceTypeUnavailable", "InvalidRequest"})
LEGACY_SIZE_SENTENCE: Final = "all requested instance types were unavailable during launch"
HOPELESS_SENTENCES: Final = (
    LEGACY_SIZE_SENTENCE,
    "is not allowed in your subscription in location",
)
"""Texts by which provisioners without fine reasons say that a size cannot be had."""
NEXT_TRY: Final = "Next try after "
"""A provisioner that says when it tries again has not given up, whatever the reason."""

_OTHER_SIZE: Final = (
    "resource.instanceType cannot be edited: for another size, delete this Workspace and apply it "
    "anew."
)
_PROVISIONER: Final = "Whoever runs the provisioner has to see to it."
_NETWORK: Final = "Whoever runs the cluster has to see to its network and node images."
REMEDIES: Final[Mapping[str, str]] = {
    "QuotaExceeded": _OTHER_SIZE,
    "InsufficientCapacity": _OTHER_SIZE,
    "InstanceTypeUnavailable": _OTHER_SIZE,
    "PoolLimitReached": "Workspaces that are not needed any more hold pools: delete some.",
    "AuthorizationFailed": _PROVISIONER,
    "ClusterNotFound": _PROVISIONER,
    "LinkFailed": _PROVISIONER,
    "LaunchFailed": "If it stays, look at the provisioner's log.",
    "NodeBootstrapFailed": _NETWORK,
    "RegistrationTimeout": _NETWORK,
}
"""What the owner of a Workspace can do, beyond what the provisioner has said, by reason."""


def verdict(status: str, reason: str, message: str) -> Verdict:
    """The verdict on the first condition of a claim that is not True.

    Args:
        status: `False` or `Unknown`.
        reason: the condition's reason.
        message: the condition's message.
    """
    if reason in HOPELESS or any(sentence in message for sentence in HOPELESS_SENTENCES):
        return "blocked" if NEXT_TRY in message else "hopeless"
    if reason in BROKEN:
        return "broken"
    if reason in BLOCKED:
        return "blocked"
    return "progress" if reason in PROGRESS or status != "False" else "blocked"
