"""Condition types and the closed list of reasons the controller itself gives.

Invariant: a condition carries a reason from this module or, where a claim failed, the reason that
its provisioner gave. Reasons that dashboards know from earlier releases keep their spelling.
"""

from typing import Final

# Condition types.
MACHINE_READY: Final = "MachineReady"
NODECLAIM_READY: Final = "NodeClaimReady"
RESOURCE_READY: Final = "ResourceReady"
INFERENCE_READY: Final = "InferenceReady"
WORKSPACE_READY: Final = "WorkspaceReady"
WORKSPACE_SUCCEEDED: Final = "WorkspaceSucceeded"
WORKSPACE_DELETING: Final = "WorkspaceDeleting"
JOB_STARTED: Final = "JobStarted"

# MachineReady and NodeClaimReady.
MACHINES_READY: Final = "installNodePluginsSuccess"
NODECLAIMS_READY: Final = "NodeClaimsReady"
MACHINE_PENDING: Final = "CreateMachinePending"
NODECLAIM_PENDING: Final = "CreateNodeClaimPending"
CLAIM_LOST: Final = "ClaimLost"
NODE_NEVER_JOINED: Final = "NodeNeverJoined"
NO_PROVISIONER_ANSWER: Final = "NoProvisionerAnswer"
CLAIM_FAILED: Final = "ClaimFailed"
NODE_DELAYED: Final = "NodeDelayed"
CLAIM_UNREADABLE: Final = "ClaimUnreadable"

# ResourceReady; it also takes over the reason of the claims.
RESOURCE_SUCCESS: Final = "workspaceResourceStatusSuccess"
RESOURCE_PENDING: Final = "workspaceResourceStatusNotReady"
NODE_NOT_FOUND: Final = "NodeNotFound"
NODE_NOT_READY: Final = "NodeNotReady"
NODE_PLUGINS_NOT_READY: Final = "NodePluginsNotReady"
NO_FREE_NODE: Final = "NoFreeNode"
CLAIM_API_NOT_SERVED: Final = "ClaimApiNotServed"
PRESET_UNKNOWN: Final = "PresetUnknown"
INSTANCE_TYPE_UNKNOWN: Final = "InstanceTypeUnknown"
NOTHING_FITS: Final = "NoInstanceTypeFits"
SELECTOR_UNUSABLE: Final = "LabelSelectorUnusable"
IMAGE_MISSING: Final = "PresetImageMissing"
ACCESS_MISSING: Final = "ModelAccessSecretMissing"
PRESET_NOT_TUNABLE: Final = "PresetNotTunable"
METHOD_UNKNOWN: Final = "TuningMethodUnknown"
ENGINE_UNUSABLE: Final = "EngineUnusable"

# InferenceReady.
INFERENCE_SUCCESS: Final = "WorkspaceInferenceStatusSuccess"
INFERENCE_PENDING: Final = "WorkspaceInferenceStatusPending"
NAME_TAKEN: Final = "NameTaken"
TEMPLATE_REJECTED: Final = "TemplateRejected"
ADAPTER_UNUSABLE: Final = "AdapterUnusable"
ADAPTER_NOT_READY: Final = "AdapterNotReady"
ADAPTER_PULL: Final = "AdapterPullError"
CONFIG_NOT_READY: Final = "InferenceConfigNotReady"
VERSION_UNUSABLE: Final = "UpgradeVersionUnusable"
NAME_TOO_LONG: Final = "NameTooLong"
OOM_KILLED: Final = "ContainerOOMKilled"
IMAGE_PULL: Final = "ImagePullError"
CONTAINER_START: Final = "ContainerStartError"
VOLUME_MOUNT: Final = "VolumeMountError"
CRASH_LOOP: Final = "ContainerCrashLoopBackOff"
POD_EVICTED: Final = "PodEvicted"
POD_FAILED: Final = "PodFailed"
UNSCHEDULABLE: Final = "Unschedulable"
PODS_REFUSED: Final = "PodsRefused"


# Tuning: ResourceReady after the run.
RELEASED: Final = "ReleasedAfterTuning"
NODE_KEPT: Final = "KeptAfterTuning"

# Tuning: JobStarted.
JOB_RUNS: Final = "WorkspaceTuningJobStatusStarted"
JOB_PENDING: Final = "WorkspaceTuningJobStatusPending"
JOB_FAILED: Final = "WorkspaceTuningJobStatusFailed"

# Tuning: InferenceReady, which here says whether the result is pushed.
TUNING_SUCCEEDED: Final = "TuningSucceeded"
TUNING_PENDING: Final = "TuningPending"
TUNING_RUNNING: Final = "TuningRunning"
VOLUME_REJECTED: Final = "TuningVolumeRejected"
TUNING_CONFIG_MISSING: Final = "TuningConfigMissing"
TUNING_CONFIG_UNUSABLE: Final = "TuningConfigUnusable"
TUNING_DATA_NOT_FETCHED: Final = "TuningDataNotFetched"
TUNING_DATA_UNUSABLE: Final = "TuningDataUnusable"
TUNING_OUT_OF_MEMORY: Final = "TuningOutOfMemory"
TUNING_PUSH_FAILED: Final = "TuningPushFailed"
TUNING_INTERRUPTED: Final = "TuningInterrupted"
TUNING_OVERDUE: Final = "TuningDeadlineExceeded"
TUNING_FAILED: Final = "TuningFailed"

# WorkspaceReady, WorkspaceSucceeded, WorkspaceDeleting.
WORKSPACE_IS_READY: Final = "workspaceReady"
SUCCEEDED: Final = "workspaceSucceeded"
PENDING: Final = "workspacePending"
FAILED: Final = "workspaceFailed"
DELETED: Final = "workspaceDeleted"
DELETION_DELAYED: Final = "DeletionDelayed"
INTERNAL_ERROR: Final = "InternalError"
