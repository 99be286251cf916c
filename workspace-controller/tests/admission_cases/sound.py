"""Workspaces that no rule has a word about."""

from typing import Any, Final

from admission_cases.builders import (
    CLAIM,
    LLAMA,
    TEMPLATE,
    adapter,
    adapters,
    data,
    result,
    spec,
    tuning,
)
from gpuapis import labels

DIGEST: Final = f"sha256:{'0' * 64}"

SOUND: Final[dict[str, dict[str, Any]]] = {
    "a preset": {},
    "a preset without size": {"size": None},
    "a template": {"inference": TEMPLATE},
    "a template with a volume": spec(
        containers=[
            {"name": "a", "image": "b", "volumeMounts": [{"name": "d", "mountPath": "/d"}]}
        ],
        volumes=[{"name": "d", "emptyDir": {}}],
        restartPolicy="Always",
    ),
    "a private preset": {
        "inference": {
            "preset": {
                "name": "falcon-7b",
                "accessMode": "private",
                "presetOptions": {
                    "image": "example.com/x:1",
                    "imagePullSecrets": ["pull"],
                },
            }
        }
    },
    "a gated preset with a token": {"size": None, "inference": LLAMA},
    "one copy over as many nodes as it takes": {"inference": LLAMA, "resource": {"count": 3}},
    "a gated preset in an image of one's own": {
        "size": None,
        "inference": {
            "preset": {
                "name": "llama-3.3-70b-instruct",
                "accessMode": "private",
                "presetOptions": {"image": "example.com/llama:1"},
            }
        },
    },
    "a preset by its id on the hub": {
        "inference": {"preset": {"name": "microsoft/Phi-4-mini-instruct"}}
    },
    "an expression": {
        "selector": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]}
    },
    "an image family in another case": {"notes": {labels.NODE_IMAGE_FAMILY: " Ubuntu"}},
    "a load balancer": {"notes": {labels.ENABLE_LOAD_BALANCER: "True"}},
    "no load balancer": {"notes": {labels.ENABLE_LOAD_BALANCER: "False"}},
    "the runtime transformers": {"notes": {labels.RUNTIME: "transformers"}},
    "the runtime vLLM": {"notes": {labels.RUNTIME: "vllm"}},
    "an upgrade": {"notes": {labels.UPGRADE_TO_VERSION: "0.2.0"}},
    "a node to be kept and a run to be started anew": tuning()
    | {"notes": {labels.KEEP_NODE: "true", labels.TUNING_RUN: "second"}},
    "somebody else's annotation": {"notes": {"example.com/x": "y"}},
    "a hundred machines": {"resource": {"count": 100}},
    "preferred nodes": {"resource": {"preferredNodes": ["aks-gpu-1.example"]}},
    "adapters of all kinds": adapters(
        adapter("image", "0.5"),
        adapter("digest", "1", image=f"example.com/a@{DIGEST}", imagePullSecrets=["s"]),
        adapter("volume", "0", volumeSource=CLAIM),
        adapter("tuned", "1.0", workspace="tuner"),
        adapter("no-strength"),
        adapter("no-leading-zero", ".25"),
    ),
    "ten adapters": adapters(*(adapter(f"a{number}") for number in range(10))),
    "an adapter of half strength with vLLM": adapters(adapter(strength="0.5"))
    | {"notes": {labels.RUNTIME: "vllm"}},
    "a tuning": tuning(),
    "a tuning by lora": tuning(method="LoRA"),
    "a tuning without size": tuning() | {"size": None},
    "a tuning from an image": data(image="example.com/data", imagePullSecrets=["pull"]),
    "a tuning from a volume": data(volumeSource=CLAIM),
    "a tuning from several urls": data(
        name="train",
        urls=["http://8.8.8.8:8080/a?b=c", "https://data.example.com/d e".replace(" ", "%20")],
    ),
    "a tuning onto a volume": result(volumeSource=CLAIM),
    "a tuning into an image without a tag": result(
        image="localhost:5000/adapters/mine", imagePushSecret="push"
    ),
}
