"""Every label, annotation, taint and finalizer that the parts agree on, in one place.

Invariant: a key is spelled here and nowhere else, so that a search for its name finds every use.
"""

from typing import Final

# Ownership: which Workspace a claim, a pool, a node or a pod belongs to.
WORKSPACE: Final = "kaito.sh/workspace"
WORKSPACE_NAMESPACE: Final = "kaito.sh/workspacenamespace"
RAGENGINE: Final = "kaito.sh/ragengine"
RAGENGINE_NAMESPACE: Final = "kaito.sh/ragenginenamespace"
OWNER_MARKS: Final = (WORKSPACE, RAGENGINE)
"""A provisioner serves a claim that carries either of these, whatever its class reference."""

RESERVED_SELECTOR_KEYS: Final = frozenset(
    {WORKSPACE, WORKSPACE_NAMESPACE, RAGENGINE, RAGENGINE_NAMESPACE}
)
RESERVED_SELECTOR_PREFIX: Final = "karpenter.kaito.sh/"
SERVICE_NAME: Final = "[a-z]([-a-z0-9]{0,61}[a-z0-9])?"
"""What a Workspace may be called, for its Service has its name: RFC 1035, since a Service may begin
with a digit only from Kubernetes 1.36 on."""

# On claims, written by the workspace controller.
SLOT: Final = "kaito.sh/slot"
WORKSPACE_UID: Final = "kaito.sh/workspace-uid"
ATTEMPT: Final = "kaito.sh/attempt"
MACHINE_TYPE: Final = "kaito.sh/machine-type"
NODE_IMAGE_FAMILY: Final = "kaito.sh/node-image-family"

# On claims, written by the provisioner.
PROVISION_STARTED: Final = "kaito.sh/provision-started"
ASSIGNED_POOL: Final = "kaito.sh/agent-pool"
"""A label, so that the API server itself can say which claims have a place in a pool."""
ASSIGNED_NODE: Final = "kaito.sh/node"
CREATION_TIMESTAMP: Final = "kaito.sh/creation-timestamp"
CREATION_LAYOUT: Final = "%Y-%m-%dT%H-%M-%SZ"
"""Of its value, in UTC; a label's value has no colons."""

# On existing nodes that a Workspace has taken, written by the workspace controller: its UID.
RESERVED_FOR: Final = "kaito.sh/reserved-for"

RESERVED_SELECTOR: Final = RESERVED_SELECTOR_KEYS | {SLOT, RESERVED_FOR}
"""Keys, beside those with the prefix, that no selector may use: the controller sets them itself."""

# On Workspaces, by the person.
ENABLE_LOAD_BALANCER: Final = "kaito.sh/enablelb"
BYPASS_RESOURCE_CHECKS: Final = "kaito.sh/bypass-resource-checks"
RUNTIME: Final = "kaito.sh/runtime"
KEEP_NODE: Final = "kaito.sh/keep-node"
"""`true` keeps a tuning Workspace's node when its run has ended, `false` gives it up."""
TUNING_RUN: Final = "kaito.sh/tuning-run"
"""Any text; changing it starts a tuning run anew."""
UPGRADE_TO_VERSION: Final = "kaito.sh/upgrade-to-version"

# On workloads: the hash of the spec they were built from.
SPEC_HASH: Final = "workspace.kaito.io/hash"
SETTINGS_HASH: Final = "workspace.kaito.io/settings-hash"
"""On pods: the server's settings that they were made for, so that an edit makes other pods."""

# Karpenter.
PROVISIONER_NAME: Final = "karpenter.sh/provisioner-name"
NODEPOOL: Final = "karpenter.sh/nodepool"
CAPACITY_TYPE: Final = "karpenter.sh/capacity-type"
REGISTERED: Final = "karpenter.sh/registered"
INITIALIZED: Final = "karpenter.sh/initialized"
DO_NOT_DISRUPT: Final = "karpenter.sh/do-not-disrupt"
DO_NOT_SYNC_TAINTS: Final = "karpenter.sh/do-not-sync-taints"
TERMINATION_TIMESTAMP: Final = "karpenter.sh/nodeclaim-termination-timestamp"
TERMINATION_FINALIZER: Final = "karpenter.sh/termination"
DISRUPTED_TAINT: Final = "karpenter.sh/disrupted"
UNREGISTERED_TAINT: Final = "karpenter.sh/unregistered"

# Kubernetes.
INSTANCE_TYPE: Final = "node.kubernetes.io/instance-type"
ARCH: Final = "kubernetes.io/arch"
OS: Final = "kubernetes.io/os"
HOSTNAME: Final = "kubernetes.io/hostname"
ZONE: Final = "topology.kubernetes.io/zone"
REGION: Final = "topology.kubernetes.io/region"
EXCLUDE_FROM_LOAD_BALANCERS: Final = "node.kubernetes.io/exclude-from-external-load-balancers"

JOB_UID: Final = "batch.kubernetes.io/controller-uid"
"""On the pods of a Job: its UID."""

# Azure Kubernetes Service.
AGENT_POOL: Final = "kubernetes.azure.com/agentpool"

# GPUs.
ACCELERATOR: Final = "accelerator"
ACCELERATOR_NVIDIA: Final = "nvidia"
GPU_RESOURCE: Final = "nvidia.com/gpu"
SKU_TAINT: Final = "sku"
SKU_TAINT_VALUE: Final = "gpu"

WORKSPACE_FINALIZER: Final = "workspace.finalizer.kaito.sh"
