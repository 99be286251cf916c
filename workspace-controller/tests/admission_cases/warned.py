"""Workspaces that are admitted with a word of warning."""

from typing import Any, Final

from admission_cases.builders import (
    CLAIM,
    FALCON,
    LLAMA,
    TEMPLATE,
    adapter,
    adapters,
    data,
    result,
    tuning,
)
from gpuapis import labels
from workspace_controller.rules.later_fields import NOTE

WARNED_OF_OWN_NODES: Final[dict[str, Any]] = {"size": None, "inference": LLAMA}
"""A Workspace that is warned of by rule `size-own`, where nodes are brought by the user."""
WARNED: Final[dict[str, tuple[str, dict[str, Any], str]]] = {
    "a retired size": (
        "size-retired",
        {"size": "Standard_NC6s_v3", "inference": TEMPLATE},
        "was retired on 2025-09-30: the cloud may refuse to make new ones; Standard_NC4as_T4_v3 (1 x",
    ),
    "a GPU that is too old": (
        "size-old-gpu",
        {"size": "Standard_ND40rs_v2"},
        "has a V100 of compute capability 7.0, and the runtime's CUDA 13 supports 7.5",
    ),
    "another name of a size": (
        "size-alias",
        {"size": "Standard_ND96asr_A100_v4"},
        "Standard_ND96asr_A100_v4 is not a name that the cloud lists: say Standard_ND96asr_v4",
    ),
    "an Arm machine": (
        "size-arm",
        {"size": "Standard_ND128isr_NDR_GB200_v6"},
        "has an Arm CPU, and the runtime image is for x86-64",
    ),
    "a size that nobody measured": (
        "size-unmeasured",
        {"size": "standard_nc8ads_a10_v4"},
        "Standard_NC8ads_A10_v4 is known, but no source says how many GPUs it has",
    ),
    "a GPU that emulates the model's format": (
        "size-emulated",
        {"size": "Standard_NC4as_T4_v3", "inference": FALCON},
        "without native bfloat16: falcon-7b runs slowly on it",
    ),
    "a tuning on a GPU that emulates what it computes in": (
        "size-emulated",
        {
            "size": "Standard_NC4as_T4_v3",
            **tuning(preset={"name": "phi-3-mini-128k-instruct"}),
        },
        "without native bfloat16, in which a fine-tuning computes",
    ),
    "a size that we do not know": (
        "size-unchecked",
        {"size": "Standard_NC6sv3"},
        "is not in our table, so its GPUs are not checked; did you mean Standard_NC6s_v3?",
    ),
    "a size like no other": ("size-unchecked", {"size": "Standard_N"}, "is not in our table"),
    "a size that does not fit, bypassed": (
        "size-bypassed",
        {"size": "Standard_NV6ads_A10_v5", "notes": {labels.BYPASS_RESOURCE_CHECKS: "true"}},
        "does not fit: the weights of phi-3-mini-128k-instruct",
    ),
    "tuning that takes nearly all of a GPU": (
        "size-tight",
        {
            "size": "Standard_NV18ads_A10_v5",
            **tuning(preset={"name": "phi-4-mini-instruct"}, method="lora"),
        },
        "has 12 GiB on each GPU, and tuning phi-4-mini-instruct takes 11.4 GiB of them",
    ),
    "a bypass that says false": (
        "bypass-resource-checks",
        {"notes": {labels.BYPASS_RESOURCE_CHECKS: "false"}},
        "bypasses the checks by being there, whatever its value",
    ),
    "many machines": (
        "count-large",
        {"resource": {"count": 101}},
        "resource.count is 101: that many machines are made and paid for, at about 371 US dollars",
    ),
    "more machines than a pool takes": (
        "count-large",
        {"resource": {"count": 1000}},
        "AKS takes at most 1000 nodes in a pool",
    ),
    "a load balancer in lower case": (
        "enablelb",
        {"notes": {labels.ENABLE_LOAD_BALANCER: "true"}},
        "is 'true'; only True has an effect",
    ),
    "a runtime for a template": (
        "annotation-no-effect",
        {"notes": {labels.RUNTIME: "vllm"}, "inference": TEMPLATE},
        "metadata.annotations[kaito.sh/runtime] has an effect on inference.preset only",
    ),
    "an annotation of a later release": (
        "annotation-no-effect",
        {"notes": {"kaito.sh/performance-mode": "throughput"}},
        "metadata.annotations[kaito.sh/performance-mode] has no effect in this version",
    ),
    "an annotation that there is not": (
        "annotation-unknown",
        {"notes": {"kaito.sh/enable-lb": "True"}},
        "metadata.annotations[kaito.sh/enable-lb] is not known. Did you mean kaito.sh/enablelb?",
    ),
    "an image for a public preset": (
        "preset-image-public",
        {
            "inference": {
                "preset": {"name": "falcon-7b", "presetOptions": {"image": "example.com/x:1"}}
            }
        },
        "inference.preset.presetOptions.image is used although accessMode is public",
    ),
    "a pull secret without an image": (
        "secret-unused",
        data(volumeSource=CLAIM, imagePullSecrets=["s"]),
        "tuning.input.imagePullSecrets has no effect without image",
    ),
    "a push secret without an image": (
        "secret-unused",
        result(volumeSource=CLAIM, imagePushSecret="s"),
        "tuning.output.imagePushSecret has no effect without image",
    ),
    "an adapter's pull secret without an image": (
        "adapter-secret-unused",
        adapters(adapter(volumeSource=CLAIM, imagePullSecrets=["s"])),
        "inference.adapters[0].source.imagePullSecrets has no effect without image",
    ),
    "a password in an address": (
        "url-password",
        data(urls=["https://me:secret@data.example.com/a"]),
        "tuning.input.urls[0] holds a password",
    ),
    "an address given twice": (
        "url-repeated",
        data(urls=["https://data.example.com/a"] * 2),
        "tuning.input.urls[1] is there twice",
    ),
    "a field of a later release": (
        "field-later",
        {"notes": {NOTE: '{"resource": {"partition": {"mode": "mig"}}}'}},
        "resource.partition has no effect: this version gives a model whole GPUs",
    ),
    "a field misspelt": (
        "field-unknown",
        {"notes": {NOTE: '{"resource": {"instancetype": "a"}, "metadata": {"x": 1}}'}},
        "resource.instancetype is no field of a Workspace and has no effect. Did you mean",
    ),
    "a field misspelt in a list": (
        "field-unknown",
        {"notes": {NOTE: '{"inference": {"adapters": [{"source": {"images": "a"}}]}}'}},
        "inference.adapters[0].source.images is no field of a Workspace",
    ),
}
