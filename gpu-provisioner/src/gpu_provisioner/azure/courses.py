"""The kinds of Azure failure, and for each what it comes to: reason, pace, words and remedy.

Invariant: reasons are a closed list, known to whoever creates claims; every kind has a sentence that
says what happened and one that says what a person can do.
"""

from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal[
    "throttled",
    "queued",
    "credentials",
    "forbidden",
    "no-cluster",
    "gone",
    "quota",
    "capacity",
    "size",
    "limit",
    "conflict",
    "changed",
    "name-taken",
    "bootstrap",
    "policy",
    "subnet",
    "request",
    "transient",
]

LEGACY_SIZE_SENTENCE: Final = "all requested instance types were unavailable during launch"
"""Creators of claims test for these very words to stop asking for a size."""


@dataclass(frozen=True, slots=True)
class Course:
    """What a kind of failure comes to.

    Attributes:
        reason: the condition's reason.
        summary: what happened; `{quota}`, `{figures}`, `{size}` and `{at}` stand for facts.
        remedy: what a person can do.
        first: seconds until the first further try.
        most: the longest that doubling makes of it.
        final: no further try until the claim is edited or replaced.
    """

    reason: str
    summary: str
    remedy: str
    first: float = 0.0
    most: float = 0.0
    final: bool = False


COURSES: Final[dict[Kind, Course]] = {
    "throttled": Course(
        "Throttled", "Azure asks for fewer requests.", "It is tried again when it may be.", 10, 120
    ),
    "queued": Course("Throttled", "Waiting for a turn.", "It comes by itself."),
    "credentials": Course(
        "AuthorizationFailed",
        "The provisioner could not sign in to Azure.",
        "Check AZURE_CLIENT_ID and AZURE_TENANT_ID, and that the identity has a federated "
        "credential for this ServiceAccount.",
        60,
        300,
    ),
    "forbidden": Course(
        "AuthorizationFailed",
        "The provisioner's identity lacks a permission.",
        "Give it the missing role on the managed cluster.",
        60,
        300,
    ),
    "no-cluster": Course(
        "ClusterNotFound",
        "Azure does not know the managed cluster.",
        "Check ARM_SUBSCRIPTION_ID, ARM_RESOURCE_GROUP and AZURE_CLUSTER_NAME.",
        60,
        300,
    ),
    "gone": Course("LaunchFailed", "The agent pool does not exist.", "It is made again.", 1, 60),
    "quota": Course(
        "QuotaExceeded",
        "The subscription's {quota}{at} is used up{figures}.",
        "Raise the quota (https://aka.ms/quotas), free some of it, or choose another instanceType.",
        300,
        1_800,
    ),
    "capacity": Course(
        "InsufficientCapacity",
        "Azure has no free {size}{at} just now.",
        "Wait, or choose another instanceType, zone or region.",
        60,
        600,
    ),
    "size": Course(
        "InstanceTypeUnavailable",
        LEGACY_SIZE_SENTENCE + ": {size} is not offered to this subscription{at}.",
        "Choose another instanceType or region.",
        final=True,
    ),
    "limit": Course(
        "PoolLimitReached",
        "The cluster has as many agent pools or nodes as AKS allows.",
        "Delete agent pools that are not needed any more.",
        60,
        60,
    ),
    "conflict": Course(
        "OperationInProgress",
        "Another operation on the cluster or the pool comes first.",
        "It is tried again when that has ended.",
        15,
        60,
    ),
    "changed": Course(
        "OperationInProgress", "The agent pool changed meanwhile.", "It is looked at again.", 1, 15
    ),
    "name-taken": Course(
        "InvalidRequest",
        "An agent pool of this name exists and is of another kind.",
        "Delete that pool, or create a claim of another name.",
        final=True,
    ),
    "bootstrap": Course(
        "NodeBootstrapFailed",
        "The VM was created, but did not become a node of the cluster.",
        "Check the cluster's outbound network and DNS, and the release notes of the node image.",
        15,
        300,
    ),
    "policy": Course(
        "InvalidRequest",
        "An Azure policy forbids this agent pool.",
        "Ask for an exemption, or ask for what the policy allows.",
        600,
        1_800,
    ),
    "subnet": Course(
        "LaunchFailed",
        "The cluster's subnet has no room for another node.",
        "Free addresses, or use a larger subnet.",
        300,
        1_800,
    ),
    "request": Course(
        "InvalidRequest",
        "Azure refuses the agent pool as it was asked for.",
        "Correct the claim, which means to replace it.",
        final=True,
    ),
    "transient": Course(
        "LaunchFailed", "Azure could not answer just now.", "It is tried again.", 1, 60
    ),
}

CLUSTER_WIDE: Final[frozenset[Kind]] = frozenset({"credentials", "no-cluster"})
"""Kinds that say nothing of one claim, and that a list of the pools can disprove."""
