"""Which kind of failure an Azure answer is, as an ordered table of what gives each kind away.

Invariant: no kind is chosen by a code alone where the same code means different things: Azure
reports a spent quota, a running operation and a spot price that is too low all as
`OperationNotAllowed`, and a failed operation comes with HTTP 200.
"""

import re
from dataclasses import dataclass
from typing import Literal

from gpu_provisioner.azure.courses import Kind
from gpu_provisioner.azure.payload import Payload

Where = Literal[
    "put", "get", "list", "delete", "abort", "machines", "delete-machines", "pool", "token"
]
"""The call that failed; "pool" is a pool's own provisioning error, "token" the sign-in."""


@dataclass(frozen=True, slots=True)
class _Rule:
    kind: Kind
    codes: frozenset[str] = frozenset()
    words: str = ""
    statuses: frozenset[int] = frozenset()
    places: frozenset[str] = frozenset()

    def fits(self, where: Where, status: int | None, payload: Payload, codes: set[str]) -> bool:
        if self.places and where not in self.places:
            return False
        return bool(
            (self.codes & codes)
            or (status in self.statuses)
            or (self.words and re.search(self.words, payload.text, re.IGNORECASE))
        )


def _codes(*names: str) -> frozenset[str]:
    return frozenset(name.lower() for name in names)


# The first rule that fits decides. Order carries knowledge: a dependency's throttle and a bootstrap
# failure hide inside a pool's general code, and quota and capacity inside OperationNotAllowed.
_RULES = (
    _Rule("transient", _codes("AADSTS501661", "AADSTS90033", "AADSTS50196")),
    _Rule(
        "throttled",
        _codes("TooManyRequests", "Throttled", "SubscriptionRequestsThrottled"),
        r"too many requests",
        frozenset({429}),
    ),
    _Rule("transient", statuses=frozenset(range(500, 600)), places=frozenset({"token"})),
    _Rule("credentials", places=frozenset({"token"}), words="."),
    _Rule(
        "credentials",
        _codes("ExpiredAuthenticationToken", "InvalidAuthenticationToken"),
        r"AADSTS\d+",
        frozenset({401}),
    ),
    _Rule("policy", _codes("RequestDisallowedByPolicy", "RequestDisallowedByAzure")),
    _Rule(
        "forbidden",
        _codes("AuthorizationFailed", "LinkedAuthorizationFailed", "Forbidden"),
        statuses=frozenset({403}),
    ),
    _Rule(
        "no-cluster",
        _codes("ResourceGroupNotFound", "SubscriptionNotFound", "ParentResourceNotFound"),
        r"managedClusters/[^/\s']+' under resource group|resource group '[^']*' could not be found",
    ),
    _Rule("gone", words=r"resource not found but etag|agent ?pool not found"),
    _Rule(
        "quota",
        _codes("QuotaExceeded", "ErrCode_InsufficientVCPUQuota"),
        r"exceeding approved .{0,80}quota|insufficient (?:\w+ )?vcpu quota|code\"?[=:]\W*"
        r"\w*(?:quota\w*exceed|insufficient\w*quota)",
    ),
    _Rule("limit", _codes("KubenetNodeCountTotalExceedsLimit", "MaxAgentPoolCountReached")),
    _Rule(
        "limit", words=r"number of agent ?pools .{0,60}(?:exceed|maximum)|maximum number of agent"
    ),
    _Rule("subnet", _codes("InsufficientSubnetSize", "SubnetIsFull")),
    _Rule(
        "capacity",
        _codes(
            "AllocationFailed",
            "ZonalAllocationFailed",
            "OverconstrainedAllocationRequest",
            "OverconstrainedZonalAllocationRequest",
        ),
        r"failed for capacity restrictions|sufficient capacity for the requested",
    ),
    _Rule(
        "size",
        _codes("SkuNotAvailable", "VMSizeNotSupported", "AvailabilityZoneNotSupported"),
        r"is not allowed in your subscription in location|restricted by AKS",
    ),
    _Rule(
        "request",
        _codes("VMCacheSizeTooSmall"),
        r"lower than the current spot price|cannot boot hypervisor generation",
    ),
    _Rule("name-taken", _codes("PropertyChangeNotAllowed")),
    _Rule(
        "conflict",
        _codes(
            "EtagMismatch",
            "OriginalEtagNotExpect",
            "OperationPreempted",
            "AKSOperationPreempted",
            "AKSOperationPreemptedByDelete",
            "AnotherOperationInProgress",
            "Canceled",
            "Cancelled",
        ),
        r"in progress|another (?:\w+ )?operation|has been preempted|cancel operation is not allowed",
    ),
    _Rule(
        "bootstrap",
        _codes("VMExtensionProvisioningError", "VMExtensionProvisioningTimeout"),
        r"VMExtensionError|processing extension 'vmssCSE'",
    ),
    _Rule("changed", statuses=frozenset({412})),
    _Rule("conflict", statuses=frozenset({409})),
    # A pool that is to be made, or all pools, cannot be missing: the cluster is.
    _Rule("no-cluster", statuses=frozenset({404}), places=frozenset({"put", "list"})),
    _Rule("gone", _codes("NotFound", "ResourceNotFound"), statuses=frozenset({404})),
    # Service staff call a bare "Bad request" a hidden throttle: nothing in it can be corrected.
    _Rule("transient", words=r"message\W+bad request\W*$"),
    _Rule(
        "request",
        _codes("InvalidParameter", "BadRequest", "ValidationError", "InvalidRequestContent"),
        statuses=frozenset({400, 405, 413, 415, 422}),
        places=frozenset({"put", "pool"}),
    ),
    # A pool's most general code may stand for anything; with these words it promises nothing.
    _Rule("transient", words=r"unable to serve this request due to an internal error"),
    _Rule("bootstrap", _codes("ReconcileVMSSAgentPoolFailed")),
)


def kind_of(where: Where, status: int | None, payload: Payload, codes: set[str]) -> Kind:
    """The kind of a failure; one that nothing gives away may pass, so it is transient.

    Args:
        where: the call that failed.
        status: HTTP status, if there was one.
        payload: the answer's text, taken apart.
        codes: every code known, in lower case.
    """
    for rule in _RULES:
        if rule.fits(where, status, payload, codes):
            return rule.kind
    return "transient"
