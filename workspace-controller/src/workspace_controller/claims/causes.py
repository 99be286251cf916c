"""What a claim's reason asks for: patience, attention, another attempt, or a person.

Invariant: only causes that a new node can cure lead to another attempt; every cause that we do not
know is shown and left to the provisioner.
"""

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
HOPELESS_SENTENCES: Final = (
    "all requested instance types were unavailable during launch",
    "is not allowed in your subscription in location",
)
"""Texts by which provisioners without fine reasons say that a size cannot be had."""


def verdict(status: str, reason: str, message: str) -> Verdict:
    """The verdict on the first condition of a claim that is not True.

    Args:
        status: `False` or `Unknown`.
        reason: the condition's reason.
        message: the condition's message.
    """
    if reason in HOPELESS or any(sentence in message for sentence in HOPELESS_SENTENCES):
        return "hopeless"
    if reason in BROKEN:
        return "broken"
    if reason in BLOCKED:
        return "blocked"
    return "progress" if reason in PROGRESS or status != "False" else "blocked"
