"""The Workspace: a model to serve or to fine-tune, and the machines it may use.

Invariant: one schema serves v1alpha1 (storage) and v1beta1, so no conversion can lose a field.
The fields sit at the top level, beside `metadata`; there is no `spec`.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field

from controlkit.crdgen import map_list, open_object
from controlkit.kube.objects import ApiModel, Condition, KubeObject, Resource, Time
from gpuapis import workspace_rules as rules

GROUP = "kaito.sh"

Name = Annotated[str, Field(max_length=253)]
Word = Annotated[str, Field(max_length=63)]
Text = Annotated[str, Field(max_length=1024)]
Image = Annotated[str, Field(max_length=512)]
LabelKey = Annotated[str, Field(max_length=317)]
LabelValue = Annotated[str, Field(max_length=63, json_schema_extra=rules.VALUE)]
OpenObject = Annotated[dict[str, Any], open_object()]


class LabelSelectorRequirement(ApiModel):
    """One condition on a node label."""

    model_config = ConfigDict(json_schema_extra=rules.REQUIREMENT)

    key: Annotated[str, Field(max_length=317, json_schema_extra=rules.KEY)]
    """The label's key."""
    operator: Annotated[str, Field(max_length=16)]
    """`In`: a new node must be given a label that fits."""
    values: Annotated[tuple[LabelValue, ...], Field(max_length=64)] = ()
    """The values that the label may have; a new node gets the first."""


class LabelSelector(ApiModel):
    """Which nodes may be used; the labels are also put on every node made for the Workspace."""

    model_config = ConfigDict(json_schema_extra=rules.SELECTOR)

    match_labels: Annotated[
        dict[LabelKey, LabelValue], Field(max_length=32, json_schema_extra=rules.MATCH_LABELS)
    ] = {}
    """Labels that a node must carry, with these values."""
    match_expressions: Annotated[tuple[LabelSelectorRequirement, ...], Field(max_length=16)] = ()
    """Further conditions that a node must meet."""


class ResourceSpec(ApiModel):
    """The GPU machines a Workspace asks for."""

    model_config = ConfigDict(json_schema_extra=rules.RESOURCE)

    count: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many machines: one copy of the model on each, behind one Service; or one copy spread over
    all, where one machine is too small for it. A fine-tuning runs on one."""
    instance_type: Annotated[str, Field(max_length=64)] | None = None
    """The VM size of each machine, such as `Standard_NC24ads_A100_v4`. Left out, the cheapest known
    size that fits the preset is chosen and recorded in `status.instanceType`; a template needs one.
    Where you bring nodes: their size, if the model needs more than one GPU."""
    label_selector: LabelSelector
    """Which nodes may be used. At least one label, so that no foreign node is taken by accident."""
    preferred_nodes: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    """Names of existing nodes to use first, if they match the selector."""


class PresetOptions(ApiModel):
    """What a preset needs beside its name."""

    image: Image | None = None
    """The model image of a private preset: our runtime with the weights at `/workspace/weights`."""
    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Secrets in the Workspace's namespace that may pull `image`."""
    model_access_secret: Name | None = None
    """A Secret with the key `HF_TOKEN`, for models that ask for a licence before download."""


class PresetSpec(ApiModel):
    """A model we know how to run."""

    model_config = ConfigDict(json_schema_extra=rules.PRESET)

    name: Annotated[str, Field(max_length=128)]
    """The preset's name, such as `phi-3-mini-128k-instruct`, or its id on the model hub."""
    access_mode: Literal["public", "private"] = "public"
    """`public`: weights are downloaded from the model hub. `private`: they come in your image,
    named in `presetOptions.image`."""
    preset_options: PresetOptions = PresetOptions()
    """Image and secrets of a private or gated model."""


class Source(ApiModel):
    """Where something comes from."""

    name: Name | None = None
    """A name for it."""
    urls: Annotated[tuple[Text, ...], Field(max_length=64)] = ()
    """Files to download over http or https; for training data only."""
    volume_source: OpenObject | None = None
    """A Kubernetes volume that holds it."""
    image: Image | None = None
    """A container image that holds it under `/data`."""
    image_pull_secrets: Annotated[tuple[Name, ...], Field(max_length=16)] = ()
    """Secrets that may pull `image`."""


class DataSource(Source):
    """Where training data comes from: exactly one of `urls`, `volumeSource` and `image`."""

    model_config = ConfigDict(json_schema_extra=rules.SOURCE)


class AdapterSource(Source):
    """Where an adapter comes from: exactly one of `image`, `volumeSource` and `workspace`."""

    model_config = ConfigDict(json_schema_extra=rules.ADAPTER_SOURCE)

    name: Annotated[str, Field(max_length=253, json_schema_extra=rules.ADAPTERS_NAME)] | None = None
    """The name that requests use."""
    workspace: Word | None = None
    """A tuning Workspace of the same namespace: the image that it has pushed is used, by its
    digest. The model waits until that Workspace has succeeded."""


class DataDestination(ApiModel):
    """Where a result goes: exactly one of `volumeSource` and `image`."""

    model_config = ConfigDict(json_schema_extra=rules.DESTINATION)

    volume_source: OpenObject | None = None
    """A Kubernetes volume that receives the result."""
    image: Image | None = None
    """The image reference to push the result to."""
    image_push_secret: Name | None = None
    """The Secret that may push `image`."""


class AdapterSpec(ApiModel):
    """A fine-tuned adapter, loaded beside the preset's weights."""

    model_config = ConfigDict(json_schema_extra=rules.ADAPTER)

    source: AdapterSource | None = None
    """Where the adapter comes from."""
    strength: (
        Annotated[str, Field(max_length=16, json_schema_extra=rules.ADAPTER_STRENGTH)] | None
    ) = None
    """How strongly it counts, from 0 to 1; 1.0 when left out."""


class InferenceSpec(ApiModel):
    """A model to serve: a preset, or a pod template of your own."""

    model_config = ConfigDict(json_schema_extra=rules.INFERENCE)

    preset: PresetSpec | None = None
    """The model to serve, by preset."""
    template: OpenObject | None = None
    """A pod template (PodTemplateSpec) of your own, in place of a preset."""
    adapters: Annotated[
        tuple[AdapterSpec, ...], Field(max_length=64, json_schema_extra=rules.ADAPTERS)
    ] = ()
    """Fine-tuned adapters to load; at most 10."""
    config: Name | None = None
    """A ConfigMap with the key `inference_config.yaml`: settings of the model server."""


class TuningSpec(ApiModel):
    """A fine-tuning task: a preset, a method, data in, an adapter out."""

    model_config = ConfigDict(json_schema_extra=rules.TUNING)

    preset: PresetSpec | None = None
    """The model to tune."""
    method: Annotated[str, Field(max_length=16, json_schema_extra=rules.TUNING_METHOD)] | None = (
        None
    )
    """`lora` or `qlora`."""
    config: Name | None = None
    """A ConfigMap with the key `training_config.yaml`; the defaults serve when left out."""
    input: DataSource
    """The training data."""
    output: DataDestination
    """Where the adapter goes."""


class Phase(ApiModel):
    """One step on the way to a served model, and how long it took."""

    name: Word
    """`claim`, `launch`, `join`, `gpu`, `image`, `load`, `ready`, or `total` for all of them."""
    seconds: Annotated[int, Field(ge=0)]
    """Whole seconds that the step took; for several nodes, the slowest of them."""


class SlotStatus(ApiModel):
    """The history of one machine of the Workspace: what must outlive its claim."""

    slot: Annotated[int, Field(ge=0)]
    """The machine's number, from 0."""
    claim: Name
    """The name of its latest Machine or NodeClaim."""
    attempt: Annotated[int, Field(ge=0)] = 0
    """How many claims the slot has had before this one."""
    failures: Annotated[int, Field(ge=0)] = 0
    """How many claims in a row failed or were lost; the pause before the next grows with it."""
    lost_at: Time | None = None
    """When the latest claim was found failed or gone; absent while it lives."""
    retries: Annotated[int, Field(ge=0)] | None = None
    """How often its provisioner tried again what had failed, since the slot last was well."""
    failing: bool | None = None
    """Whether the present claim has failed, and is not being tried again at this moment."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """What the last failure gave as its cause."""
    message: Text | None = None
    """That cause, in words."""


class AttemptStatus(ApiModel):
    """One try at a node: from a claim's creation, or its next try, to its failure or end."""

    slot: Annotated[int, Field(ge=0)]
    """The number of the machine that it was for."""
    claim: Name
    """The Machine or NodeClaim."""
    sku: Annotated[str, Field(max_length=64)] | None = None
    """The VM size that was asked for."""
    started_at: Time
    """When it began."""
    ended_at: Time | None = None
    """When it failed, or its claim went; absent while it is under way or its node serves."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """Why it ended: a failure's reason, `Deleted` or `Gone`."""
    message: Text | None = None
    """That reason, in a sentence."""


class TuningStatus(ApiModel):
    """How the fine-tuning run goes, and what came of it; this outlives its node and its pods."""

    run: Word
    """Which run this speaks of: a hash of what was asked for and of the training configuration."""
    result: Literal["Succeeded", "Failed"] | None = None
    """How the run ended; absent until it has."""
    reason: Annotated[str, Field(max_length=256)] | None = None
    """Why it ended so, in one word."""
    message: Annotated[str, Field(max_length=4096)] | None = None
    """That cause, in words, and what to do about it."""
    step: Annotated[int, Field(ge=0)] | None = None
    """Steps done."""
    total_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps that the whole run takes."""
    epoch: Annotated[float, Field(ge=0)] | None = None
    """Passes over the training data, with the part of the present one."""
    loss: float | None = None
    """Loss on the training data, as last logged."""
    eval_loss: float | None = None
    """Loss on the data held back for evaluation, as last measured."""
    started_at: Time | None = None
    """When the first container of the run began."""
    finished_at: Time | None = None
    """When the run ended."""
    image: Image | None = None
    """The image reference that the result was pushed to."""
    digest: Annotated[str, Field(max_length=128)] | None = None
    """The digest of the image that was pushed."""
    resource_released: bool | None = None
    """Whether the run's node has been given up."""


class ChosenSize(ApiModel):
    """The VM size that was chosen where `resource.instanceType` was left out, and why."""

    name: Annotated[str, Field(max_length=64)]
    """The size."""
    reason: Text
    """Why this one: what it was compared with, and the list price."""


class WorkspaceStatus(ApiModel):
    """What is true now, as far as the controller has seen."""

    worker_nodes: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    """The nodes in use, sorted."""
    instance_type: Annotated[str, Field(max_length=64)] | None = None
    """The VM size in use: the one asked for, or the one chosen."""
    sku: ChosenSize | None = None
    """The size that was chosen, and why; absent when `resource.instanceType` names one."""
    target_node_count: Annotated[int, Field(ge=0)] | None = None
    """How many nodes the Workspace is to have."""
    state: Literal["Pending", "Ready", "NotReady", "Running", "Succeeded", "Failed"] | None = None
    """One word for the whole: serving (`Pending`, `Ready`, `NotReady`) or tuning (`Pending`,
    `Running`, `Succeeded`, `Failed`)."""
    observed_generation: int | None = None
    """The generation of the Workspace that this status speaks of."""
    slots: Annotated[tuple[SlotStatus, ...], Field(max_length=1000)] = ()
    """The machines, by number."""
    attempts: Annotated[tuple[AttemptStatus, ...], Field(max_length=10)] = ()
    """The newest tries at nodes, oldest first."""
    phases: Annotated[tuple[Phase, ...], Field(max_length=16)] = ()
    """How long each step took, in order; a step still running is absent."""
    tuning: TuningStatus | None = None
    """The fine-tuning run, where there is one."""
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=32, json_schema_extra=map_list("type"))
    ] = ()
    """The conditions, one per type; every False or Unknown says why and what to do."""


class Workspace(KubeObject):
    """A model served, or fine-tuned, on GPU machines that are made for it."""

    model_config = ConfigDict(json_schema_extra=rules.WORKSPACE)
    RESOURCE: ClassVar[Resource] = Resource(
        group=GROUP, version="v1alpha1", plural="workspaces", kind="Workspace", namespaced=True
    )

    resource: ResourceSpec
    """The GPU machines to use."""
    inference: InferenceSpec | None = None
    """A model to serve."""
    tuning: TuningSpec | None = None
    """A model to fine-tune."""
    status: WorkspaceStatus = WorkspaceStatus()
    """What is true now."""
