"""Karpenter's NodeClaim (`karpenter.sh/v1`): one request for one node, in today's dialect.

Invariant: the schema keeps Karpenter's bounds and rules, so that an object which is valid here is
valid for upstream Karpenter too.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from controlkit.crdgen import map_list, rule, rules
from controlkit.kube.objects import ApiModel, Condition, KubeObject, Resource
from gpuapis.machine import GROUP, Quantities, ResourceRequirements

QUALIFIED_NAME = (
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*(\/))?"
    r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
)
LABEL_VALUE = r"^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$"


class NodeClassRef(ApiModel):
    """Which provisioner, and which of its classes, is to make the node."""

    group: Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[^/]*$")]
    """The class's API group."""
    kind: Annotated[str, Field(min_length=1, max_length=63)]
    """The class's kind."""
    name: Annotated[str, Field(min_length=1, max_length=253)]
    """The class's name."""


class ClaimRequirement(ApiModel):
    """A condition on the labels of the node to be made."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            (
                "self.operator != 'In' || (has(self.values) && size(self.values) > 0)",
                "requirements with operator 'In' must have a value defined",
            ),
            (
                (
                    "!(self.operator == 'Gt' || self.operator == 'Lt') || "
                    "(has(self.values) && size(self.values) == 1 && "
                    "self.values[0].matches('^[0-9]+$'))"
                ),
                "requirements with operator 'Gt' or 'Lt' must have one non-negative integer",
            ),
            (
                (
                    "self.operator != 'In' || !has(self.minValues) || "
                    "(has(self.values) && size(self.values) >= self.minValues)"
                ),
                "requirements with minValues must have at least that many values",
            ),
        )
    )

    key: Annotated[str, Field(max_length=316, pattern=QUALIFIED_NAME)]
    """The label's key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]
    """How the values are compared."""
    values: Annotated[
        tuple[Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)], ...],
        Field(max_length=100),
    ] = ()
    """The values that the operator compares with."""
    min_values: Annotated[int, Field(ge=1, le=50)] | None = None
    """The least number of values that must stay possible."""


class ClaimTaint(ApiModel):
    """A mark on a node that keeps away pods which do not tolerate it."""

    key: Annotated[str, Field(min_length=1, max_length=316, pattern=QUALIFIED_NAME)]
    """The taint's key."""
    value: Annotated[str, Field(max_length=63, pattern=LABEL_VALUE)] = ""
    """The taint's value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"]
    """What happens to pods that do not tolerate it."""


class NodeClaimSpec(ApiModel):
    """The node that is wanted; it cannot change."""

    node_class_ref: NodeClassRef
    """Which provisioner is to make the node."""
    requirements: Annotated[tuple[ClaimRequirement, ...], Field(max_length=100)]
    """Conditions on the node's labels; exactly one names the instance type."""
    resources: ResourceRequirements = ResourceRequirements()
    """What the node must offer."""
    taints: Annotated[tuple[ClaimTaint, ...], Field(max_length=100)] = ()
    """Taints that the node carries from its first moment."""
    startup_taints: Annotated[tuple[ClaimTaint, ...], Field(max_length=100)] = ()
    """Taints that a daemon on the node removes when the node is prepared."""
    expire_after: Annotated[str, Field(max_length=32, pattern=r"^(([0-9]+(s|m|h))+|Never)$")] = (
        "720h"
    )
    """After this time the node is replaced; `Never` for a model that serves."""
    termination_grace_period: (
        Annotated[str, Field(max_length=32, pattern=r"^([0-9]+(s|m|h))+$")] | None
    ) = None
    """The longest time that draining may take."""


class NodeClaimStatus(ApiModel):
    """What became of the request; the provisioner is its only writer."""

    node_name: str | None = None
    """The node's name."""
    provider_id: Annotated[str | None, Field(alias="providerID")] = None
    """The cloud's name for the node's VM."""
    image_id: Annotated[str | None, Field(alias="imageID")] = None
    """The image that the node was booted from."""
    capacity: Quantities = {}
    """All that the node has."""
    allocatable: Quantities = {}
    """What pods may use of it."""
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=32, json_schema_extra=map_list("type"))
    ] = ()
    """`Launched`, `Registered`, `Initialized`, and `Ready` for the whole."""


class NodeClaim(KubeObject):
    """One request for one node, and what became of it."""

    RESOURCE: ClassVar[Resource] = Resource(
        group=GROUP, version="v1", plural="nodeclaims", kind="NodeClaim", namespaced=False
    )

    spec: Annotated[
        NodeClaimSpec, Field(json_schema_extra=rule("self == oldSelf", "spec is immutable"))
    ]
    """The node that is wanted."""
    status: NodeClaimStatus = NodeClaimStatus()
    """What became of the request."""


class KaitoNodeClass(KubeObject):
    """Says, by being referred to, that the gpu-provisioner is to serve a claim."""

    RESOURCE: ClassVar[Resource] = Resource(
        group="kaito.sh",
        version="v1alpha1",
        plural="kaitonodeclasses",
        kind="KaitoNodeClass",
        namespaced=False,
    )
