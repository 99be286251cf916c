"""Workspaces that break one rule each, with the words that must be said."""

from dataclasses import dataclass, field
from typing import Any, Final

from admission_cases.builders import (
    CLAIM,
    INPUT,
    LLAMA,
    OUTPUT,
    PHI,
    QWEN,
    TEMPLATE,
    adapter,
    adapters,
    config,
    data,
    result,
    spec,
    tuning,
)
from gpuapis import labels
from workspace_controller.rules import inference_config
from workspace_controller.rules.configs import ConfigRead
from workspace_controller.skus.table import sku_table


@dataclass(frozen=True)
class Case:
    """A Workspace that breaks a rule."""

    rule: str
    facts: dict[str, Any]
    words: str
    config: ConfigRead | None = None
    knows: dict[str, Any] = field(default_factory=dict)


def labelled(**found: str) -> dict[str, Any]:
    return {"selector": {"matchLabels": found}}


def expression(operator: str, *values: str, key: str = "a") -> dict[str, Any]:
    return {
        "selector": {
            "matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]
        }
    }


def trained(text: str | None, words: str, *, method: str = "qlora", rule: str = "") -> Case:
    facts = tuning(config="settings", method=method)
    return Case(rule or "training-config", facts, words, config(text))


def training(sections: str, words: str, *, method: str = "qlora") -> Case:
    return trained(f"training_config:\n{sections}", words, method=method)


def served(text: str, words: str) -> Case:
    facts = {"inference": PHI | {"config": "settings"}}
    return Case("inference-config", facts, words, config(text, key=inference_config.KEY))


def pulled(image: str, words: str) -> Case:
    return Case("image-reference", data(image=image), words)


def downloaded(url: str, rule: str = "url-private") -> Case:
    words = {
        "url-private": "leads to the machine itself or to a private address",
        "url-metadata": "leads to the cloud's metadata service",
        "url-form": "is no URL to download from",
    }
    return Case(rule, data(urls=[url]), f"tuning.input.urls[0] '{url}' {words[rule]}")


QUANTIZED: Final = "  QuantizationConfig: {load_in_4bit: true}\n"

BROKEN: Final[dict[str, Case]] = {
    # Name and annotations
    "a name with dots": Case("name", {"name": "a.b"}, "metadata.name 'a.b'"),
    "a name that begins with a digit": Case("name", {"name": "7b"}, "beginning with a letter"),
    "a name that ends with a dash": Case(
        "name", {"name": "chat-"}, "ending with a letter or digit"
    ),
    "a name of 64 characters": Case("name", {"name": "a" * 64}, "at most 63 characters"),
    "an image family that there is not": Case(
        "node-image-family",
        {"notes": {labels.NODE_IMAGE_FAMILY: "ubunto"}},
        "is 'ubunto'. Did you mean ubuntu? Allowed: azurelinux, ubuntu",
    ),
    "a runtime that there is not": Case(
        "runtime",
        {"notes": {labels.RUNTIME: "VLLM"}},
        "is 'VLLM'. Did you mean vllm? Allowed: transformers, vllm",
    ),
    "a node to be kept perhaps": Case(
        "keep-node", {"notes": {labels.KEEP_NODE: "maybe"}}, "is 'maybe'. Allowed: true, false"
    ),
    "an upgrade to no version": Case(
        "upgrade-to-version",
        {"notes": {labels.UPGRADE_TO_VERSION: "0.2.0 please"}},
        "metadata.annotations[kaito.sh/upgrade-to-version] is '0.2.0 please', which is no image tag",
    ),
    # Labels
    "an empty selector": Case(
        "selector-empty", labelled(), "resource.labelSelector is empty, and would take any node"
    ),
    "a reserved label": Case(
        "selector-reserved",
        labelled(**{labels.WORKSPACE: "x"}),
        "uses kaito.sh/workspace, which the controller sets itself",
    ),
    "a reserved label in an expression": Case(
        "selector-reserved",
        expression("In", "1", key="karpenter.kaito.sh/x"),
        "uses karpenter.kaito.sh/x, which",
    ),
    "a label that a kubelet sets": Case(
        "selector-system",
        labelled(**{labels.HOSTNAME: "x"}),
        "uses kubernetes.io/hostname, which a new node cannot be given",
    ),
    "the instance type as a label": Case(
        "selector-system",
        labelled(**{labels.INSTANCE_TYPE: "Standard_NC6s_v3"}),
        "uses node.kubernetes.io/instance-type, which a new node cannot be given",
    ),
    "a label of the provisioner": Case(
        "selector-system",
        labelled(**{labels.PROVISIONER_NAME: "foo"}),
        "uses karpenter.sh/provisioner-name, which a new node cannot be given",
    ),
    "labels of AKS": Case(
        "selector-system",
        labelled(agentpool="x", **{"kubernetes.azure.com/x": "y"}),
        "uses agentpool, kubernetes.azure.com/x, which a new node cannot be given",
    ),
    "a malformed key": Case("selector-key", labelled(**{"a b": "x"}), "key 'a b' is no label key"),
    "a malformed value": Case(
        "selector-value", labelled(apps="x y"), "value 'x y' of 'apps' is no label value"
    ),
    "a malformed value in an expression": Case(
        "selector-value", expression("In", "-"), "value '-' of 'a' is no label value"
    ),
    "an expression without a value": Case(
        "selector-expression",
        expression("In"),
        "resource.labelSelector.matchExpressions[0] on 'a' uses In with 0 values",
    ),
    "an expression that excludes": Case(
        "selector-expression", expression("NotIn", "1"), "uses NotIn with 1 values"
    ),
    "a label of two values": Case(
        "selector-contradiction",
        {
            "selector": {
                "matchLabels": {"a": "1"},
                "matchExpressions": [{"key": "a", "operator": "In", "values": ["2"]}],
            }
        },
        "asks 'a' to be both '1' and '2'",
    ),
    # Machines
    "a size that is none": Case(
        "size-known",
        {"size": "NC6s_v3"},
        "resource.instanceType 'NC6s_v3' is not a GPU size of azure. Did you mean Standard_NC6s_v3?",
    ),
    "a size without GPUs": Case(
        "size-known", {"size": "Standard_D4s_v3"}, "'Standard_D4s_v3' is not a GPU size of azure"
    ),
    "a size too small": Case(
        "size-fits",
        {"size": "Standard_NV6ads_A10_v5"},
        "'Standard_NV6ads_A10_v5' does not fit: the weights of phi-3-mini-128k-instruct take 7.3 GiB",
    ),
    "too few nodes for one copy": Case(
        "size-fits",
        {"inference": LLAMA, "resource": {"count": 2}},
        "it fits when spread over 3 of them: set resource.count. Sizes that fit: Standard_NC40ads",
    ),
    "a size that is too small for that engine": Case(
        "size-fits",
        {
            "size": "Standard_NC4as_T4_v3",
            "inference": {"preset": {"name": "mistral-7b"}},
            "notes": {labels.RUNTIME: "vllm"},
        },
        "it fits with the annotation kaito.sh/runtime: transformers",
    ),
    "a size too small to tune on": Case(
        "size-fits",
        {
            "size": "Standard_NV36ads_A10_v5",
            **tuning(preset={"name": "phi-4"}, method="LoRA"),
        },
        (
            "tuning phi-4 by lora takes 30.9 GiB of each GPU, and each A10 of "
            "Standard_NV36ads_A10_v5 has 24 GiB. Sizes that fit: Standard_NC24ads_A100_v4"
        ),
    ),
    "a size without NVIDIA": Case(
        "size-nvidia",
        {"size": "Standard_NG32ads_V620_v1"},
        "has AMD GPUs, and model servers need NVIDIA",
    ),
    "a template on a size without NVIDIA": Case(
        "size-nvidia",
        {"size": "Standard_NG32ads_V620_v1", "inference": TEMPLATE},
        "has AMD GPUs, and model servers need NVIDIA",
    ),
    "a template without size": Case(
        "size-needed",
        {"inference": TEMPLATE, "size": None},
        "resource.instanceType is empty, and a template does not say what it needs",
    ),
    "no size where none has a price": Case(
        "size-available",
        {"size": None},
        "is empty, and no priced size of aws fits phi-3-mini-128k-instruct on 1 node: name one",
        knows={"skus": sku_table("aws")},
    ),
    "a tuning on two machines": Case(
        "tuning-count",
        tuning() | {"resource": {"count": 2}},
        "resource.count is 2, and a fine-tuning runs on one machine",
    ),
    "a preferred node that none is": Case(
        "object-name",
        {"resource": {"preferredNodes": ["ok", "A_b"]}},
        "resource.preferredNodes[1] 'A_b' cannot name an object",
    ),
    # Kinds of work
    "both kinds of work": Case(
        "work-one", {"tuning": tuning()["tuning"]}, "inference and tuning are both given"
    ),
    "no work": Case("work-one", {"inference": None}, "inference is missing: say what to serve"),
    "a preset and a template": Case(
        "inference-one", {"inference": PHI | TEMPLATE}, "both are given"
    ),
    "neither preset nor template": Case("inference-one", {"inference": {}}, "neither is given"),
    # Models
    "a preset that there is not": Case(
        "preset-known",
        {"inference": {"preset": {"name": "falcon"}}},
        "inference.preset.name 'falcon' is not a known preset. Did you mean falcon-7b",
    ),
    "a preset to tune that there is not": Case(
        "preset-known",
        tuning(preset={"name": "falcon"}),
        "tuning.preset.name 'falcon' is not a known preset. Did you mean falcon-7b",
    ),
    "a private preset without an image": Case(
        "preset-image",
        {"inference": {"preset": {"name": "falcon-7b", "accessMode": "private"}}},
        "inference.preset.presetOptions.image is empty",
    ),
    "a private preset to tune without an image": Case(
        "preset-image",
        tuning(preset={"name": "falcon-7b", "accessMode": "private"}),
        "tuning.preset.presetOptions.image is empty",
    ),
    "a gated preset without a token": Case(
        "preset-access",
        {"size": None, "inference": {"preset": {"name": "llama-3.3-70b-instruct"}}},
        "inference.preset.presetOptions.modelAccessSecret is empty, and the hub gives out",
    ),
    "a private preset that is called public": Case(
        "preset-access",
        {"size": None, "inference": {"preset": {"name": "llama-2-7b"}}},
        "inference.preset.accessMode is 'public', and llama-2-7b may not be downloaded by everybody",
    ),
    "a preset that cannot be tuned": Case(
        "preset-tunable",
        tuning(preset={"name": "deepseek-r1-distill-llama-8b"}),
        "tuning.preset.name 'deepseek-r1-distill-llama-8b' cannot be fine-tuned. Presets that can:",
    ),
    "a Secret that none is": Case(
        "object-name",
        {
            "inference": {
                "preset": {"name": "falcon-7b", "presetOptions": {"modelAccessSecret": "HF_TOKEN"}}
            }
        },
        "inference.preset.presetOptions.modelAccessSecret 'HF_TOKEN' cannot name an object",
    ),
    # Templates
    "a template without a spec": Case(
        "template", {"inference": {"template": {}}}, "inference.template.spec is missing"
    ),
    "a template without containers": Case(
        "template", spec(containers=[]), "inference.template.spec.containers has 0 entries"
    ),
    "a template without an image": Case(
        "template",
        spec(containers=[{"name": "a"}]),
        "inference.template.spec.containers[0].image is missing",
    ),
    "a template with an empty image": Case(
        "template",
        spec(containers=[{"name": "a", "image": ""}]),
        "inference.template.spec.containers[0].image is empty",
    ),
    "a template with a bad container name": Case(
        "template",
        spec(containers=[{"name": "A_b", "image": "b"}]),
        "inference.template.spec.containers[0].name is 'A_b'",
    ),
    "a template with a port that none is": Case(
        "template",
        spec(containers=[{"name": "a", "image": "b", "ports": [{"containerPort": 70000}]}]),
        "containers[0].ports[0].containerPort is 70000; allowed: at most 65535",
    ),
    "a template that never restarts": Case(
        "template",
        spec(restartPolicy="Never"),
        "inference.template.spec.restartPolicy is 'Never'; allowed: 'Always'",
    ),
    "a template that ends by itself": Case(
        "template",
        spec(activeDeadlineSeconds=60),
        "inference.template.spec.activeDeadlineSeconds is 60; it must be left out",
    ),
    "a template with a bad init container": Case(
        "template",
        spec(initContainers=[{"name": "i"}]),
        "inference.template.spec.initContainers[0].image is missing",
    ),
    "a template with a name twice": Case(
        "template",
        spec(initContainers=[{"name": "a", "image": "b"}]),
        "inference.template.spec.containers give the name 'a' twice",
    ),
    "a template that mounts nothing": Case(
        "template",
        spec(
            containers=[{"name": "a", "image": "b", "volumeMounts": [{"name": "data"}]}],
            volumes=[{"name": "date"}],
        ),
        "inference.template.spec.volumes do not name 'data', which container a mounts",
    ),
    # Adapters
    "eleven adapters": Case(
        "adapters-count",
        adapters(*(adapter(f"a{number}") for number in range(11))),
        "inference.adapters has 11 entries; at most 10 are allowed",
    ),
    "adapters for a template": Case(
        "adapters-preset",
        {"inference": TEMPLATE | {"adapters": [adapter()]}},
        "inference.adapters is for presets",
    ),
    "an adapter without a source": Case(
        "adapter-source", adapters({}), "inference.adapters[0].source is missing"
    ),
    "an adapter without a name": Case(
        "adapter-name", adapters(adapter(None)), "inference.adapters[0].source.name is missing"
    ),
    "an adapter with a name that no container has": Case(
        "adapter-name",
        adapters(adapter("My_Adapter")),
        "inference.adapters[0].source.name 'My_Adapter' cannot name an adapter",
    ),
    "an adapter with a name of 56 characters": Case(
        "adapter-name", adapters(adapter("a" * 56)), "1 to 55 characters"
    ),
    "two adapters of one name": Case(
        "adapter-unique",
        adapters(adapter("a"), adapter("a")),
        "inference.adapters[1].source.name 'a' is given twice",
    ),
    "an adapter from urls": Case(
        "adapter-urls",
        adapters(adapter(image="example.com/a", urls=["https://example.com"])),
        "inference.adapters[0].source.urls is for training data",
    ),
    "an adapter from nowhere": Case(
        "adapter-one",
        adapters({"source": {"name": "a"}}),
        "inference.adapters[0].source takes exactly one of image, volumeSource, workspace; "
        "given: none",
    ),
    "an adapter from two places": Case(
        "adapter-one",
        adapters(adapter(image="example.com/a", workspace="b")),
        "given: image, workspace",
    ),
    "an adapter from no image": Case(
        "image-reference",
        adapters(adapter(image="https://example.com/a")),
        "inference.adapters[0].source.image 'https://example.com/a' is no image reference: "
        "leave out https://",
    ),
    "an adapter from a volume that starts empty": Case(
        "volume-empty",
        adapters(adapter(volumeSource={"emptyDir": {}})),
        "inference.adapters[0].source.volumeSource is of the kind emptyDir, which holds nothing",
    ),
    "an adapter from itself": Case(
        "adapter-itself",
        adapters(adapter(workspace="w")),
        "inference.adapters[0].source.workspace 'w' is this Workspace",
    ),
    "an adapter that is too strong": Case(
        "adapter-strength",
        adapters(adapter(strength="1.5")),
        "inference.adapters[0].strength '1.5' is not a decimal number from 0 to 1",
    ),
    "an adapter of negative strength": Case(
        "adapter-strength", adapters(adapter(strength="-0.5")), "strength '-0.5' is not"
    ),
    "an adapter whose strength is a word": Case(
        "adapter-strength", adapters(adapter(strength="NaN")), "strength 'NaN' is not"
    ),
    # Settings of the server
    "an engine that cannot serve the model": Case(
        "preset-engine",
        {"inference": QWEN, "notes": {labels.RUNTIME: "transformers"}},
        "metadata.annotations[kaito.sh/runtime] is 'transformers', and qwen3.5-9b is served by vllm",
    ),
    "an engine that cannot serve the model on a size we do not know": Case(
        "preset-engine",
        {"inference": QWEN, "size": "Standard_NC9_v9", "notes": {labels.RUNTIME: "transformers"}},
        "leave the annotation out",
    ),
    "an engine that cannot serve the model on any size": Case(
        "preset-engine",
        {"inference": QWEN, "size": None, "notes": {labels.RUNTIME: "transformers"}},
        "leave the annotation out",
    ),
    "an engine that cannot serve the model on nodes of one's own": Case(
        "preset-engine",
        {"inference": QWEN, "size": None, "notes": {labels.RUNTIME: "transformers"}},
        "leave the annotation out",
        knows={"byo": True},
    ),
    "settings for a template": Case(
        "config-preset",
        {"inference": TEMPLATE | {"config": "settings"}},
        "inference.config is for presets",
    ),
    "settings that are not there": Case(
        "config-exists",
        {"inference": PHI | {"config": "settings"}},
        "inference.config 'settings' names a ConfigMap that is not in the Workspace's namespace",
        config(None),
    ),
    "settings that cannot be read": Case(
        "config-readable",
        {"inference": PHI | {"config": "settings"}},
        "inference.config 'settings' could not be read: the API server is busy. Apply",
        ConfigRead("settings", trouble="the API server is busy"),
    ),
    "settings under another key": Case(
        "inference-config",
        {"inference": PHI | {"config": "settings"}},
        "it has no key inference_config.yaml; it has config.yaml",
        config("a: b", key="config.yaml"),
    ),
    "settings that are no map": served("- a", "inference_config.yaml must hold a map"),
    "settings that are no YAML": served("a: [", "inference_config.yaml is no YAML: "),
    "engine settings that are no map": served("vllm: 5", "vllm is 5; it must be a map"),
    "a longer context than the model has": served(
        "vllm: {max-model-len: 200000}",
        "vllm.max-model-len is 200000, and the model can attend to 131072 tokens",
    ),
    "a longer context than the model has, by the server's own setting": served(
        "max_model_len: 200000",
        "max_model_len is 200000, and the model can attend to 131072 tokens",
    ),
    "a context that is no number": served(
        "vllm: {max-model-len: long}",
        "vllm.max-model-len is 'long'; it must be a whole number of tokens",
    ),
    # Tuning
    "a tuning without a model": Case(
        "tuning-preset", tuning(preset=None), "tuning.preset is missing"
    ),
    "a tuning without a method": Case(
        "tuning-method", tuning(method=None), "tuning.method is missing. Allowed: lora, qlora"
    ),
    "a tuning by another method": Case(
        "tuning-method",
        tuning(method="qlor"),
        "tuning.method is 'qlor'. Did you mean qlora? Allowed: lora, qlora",
    ),
    "no data": Case(
        "input-one", data(), "takes exactly one of urls, volumeSource, image; given: none"
    ),
    "data from two places": Case(
        "input-one", data(**INPUT, image="example.com/a"), "given: urls, image"
    ),
    "no place for the result": Case(
        "output-one", result(), "tuning.output takes exactly one of image and volumeSource; neither"
    ),
    "two places for the result": Case(
        "output-one", result(**OUTPUT, volumeSource=CLAIM), "volumeSource; both are given"
    ),
    "a result without a push secret": Case(
        "output-secret", result(image="example.com/a"), "tuning.output.imagePushSecret is missing"
    ),
    "a result by digest": Case(
        "image-target",
        result(image=f"example.com/a@sha256:{'0' * 64}", imagePushSecret="s"),
        "names a digest, which only the pushed image will have",
    ),
    # Images
    "an image of capital letters": pulled("example.com/Data:v1", "its path must be in lower case"),
    "an image with a scheme": pulled("docker://example.com/a", "leave out docker://"),
    "an image with a space": pulled("example.com/a b", "it holds a space"),
    "an image without a name": pulled("", "it is empty"),
    "an image with a broken digest": pulled(
        "example.com/a@sha256:123", "a digest is written @sha256: and 64 characters"
    ),
    "an image with an empty tag": pulled("example.com/a:", "is no image reference"),
    # Volumes
    "a volume of no kind": Case(
        "volume-kind", data(volumeSource={}), "tuning.input.volumeSource names nothing"
    ),
    "a volume of two kinds": Case(
        "volume-kind",
        data(volumeSource=CLAIM | {"hostPath": {"path": "/d"}}),
        "names hostPath, persistentVolumeClaim; it must name exactly one",
    ),
    "a volume of a kind that there is not": Case(
        "volume-kind",
        data(volumeSource={"persistentVolumeClaims": {"claimName": "a"}}),
        "names 'persistentVolumeClaims', which is no kind of volume. Did you mean "
        "persistentVolumeClaim?",
    ),
    "a volume whose settings are none": Case(
        "volume-kind", data(volumeSource={"nfs": "here"}), "volumeSource.nfs is 'here'; it must be"
    ),
    "a claim without a name": Case(
        "volume-claim",
        data(volumeSource={"persistentVolumeClaim": {}}),
        "tuning.input.volumeSource.persistentVolumeClaim.claimName is missing",
    ),
    "a result onto a volume that is deleted": Case(
        "volume-empty",
        result(volumeSource={"emptyDir": {}}),
        "tuning.output.volumeSource is of the kind emptyDir, which is deleted with the pod",
    ),
    "a result onto a volume that cannot be written to": Case(
        "volume-writable",
        result(volumeSource={"configMap": {"name": "a"}}),
        "tuning.output.volumeSource is of the kind configMap, which cannot be written to",
    ),
    # Addresses
    "no address": downloaded("data.example.com/a", "url-form"),
    "an address without a host": downloaded("https:///a", "url-form"),
    "a file": downloaded("file:///etc/passwd", "url-form"),
    "a port that none is": downloaded("http://example.com:99999/a", "url-form"),
    "an address in other digits": downloaded("http://\uff11\uff12\uff17.0.0.1/a", "url-form"),
    "the machine itself": downloaded("http://localhost:8000/a"),
    "the machine itself, with a dot": downloaded("http://LOCALHOST./a"),
    "a name of the machine itself": downloaded("http://a.localhost/a"),
    "the machine itself by address": downloaded("http://127.0.0.1/a"),
    "the machine itself in short": downloaded("http://127.1/a"),
    "the machine itself as one number": downloaded("http://2130706433/a"),
    "the machine itself in hexadecimal": downloaded("http://0x7f.1/a"),
    "the machine itself by IPv6": downloaded("http://[::1]/a"),
    "the machine itself by mapped IPv6": downloaded("http://[::ffff:127.0.0.1]/a"),
    "a private address": downloaded("http://10.1.2.3/a"),
    "a link-local address": downloaded("http://[fe80::1]/a"),
    "a carrier's address": downloaded("http://100.64.0.1/a"),
    "no address at all": downloaded("http://0.0.0.0/a"),
    "a metadata service": downloaded("http://169.254.169.254/latest", "url-metadata"),
    "a metadata service by name": downloaded("http://metadata.google.internal/a", "url-metadata"),
    "Azure's own service": downloaded("http://168.63.129.16/a", "url-metadata"),
    "a metadata service where private addresses are allowed": Case(
        "url-metadata",
        data(urls=["http://169.254.169.254/a"]),
        "leads to the cloud's metadata service",
        knows={"private_urls": True},
    ),
    # Training configurations
    "a training configuration that is not there": trained(
        None, "tuning.config 'settings' names a ConfigMap that is not", rule="config-exists"
    ),
    "a training configuration that is empty": trained("", "training_config.yaml must hold a map"),
    "a training configuration without its top key": trained(
        "a: b", "training_config.yaml must hold a map under its top key training_config"
    ),
    "a training configuration with a second top key": trained(
        "training_config: {QuantizationConfig: {load_in_4bit: true}}\nLoraConfig: {r: 8}",
        "training_config.yaml has LoraConfig beside its only top key training_config",
    ),
    "a training configuration that is too long": trained("#" * 40_000, "has 40000 bytes; at most"),
    "a section that there is not": training(
        QUANTIZED + "  LoraConfigs: {}",
        "training_config.LoraConfigs is no section. Did you mean LoraConfig? Allowed: DataCollator",
    ),
    "a section that is no map": training(
        QUANTIZED + "  LoraConfig: 5", "training_config.LoraConfig is 5; it must be a map"
    ),
    "a quantization that is neither true nor false": training(
        "  QuantizationConfig: {load_in_4bit: 'yes', load_in_8bit: true}",
        "training_config.QuantizationConfig.load_in_4bit is 'yes'; allowed: true or false",
    ),
    "both quantizations": training(
        "  QuantizationConfig: {load_in_4bit: true, load_in_8bit: true}",
        "sets load_in_4bit and load_in_8bit both to true: choose one",
    ),
    "a quantization for lora": training(
        QUANTIZED,
        "training_config.QuantizationConfig.load_in_4bit is true, which is for tuning.method qlora",
        method="lora",
    ),
    "no quantization for qlora": training(
        "  LoraConfig: {r: 8}",
        "sets neither of load_in_4bit and load_in_8bit to true, and tuning.method qlora needs one",
    ),
    "results outside the volume": training(
        QUANTIZED + "  TrainingArguments: {output_dir: ../etc}",
        "training_config.TrainingArguments.output_dir is '../etc', which does not lie below /mnt",
    ),
    "results in the root of the volume": training(
        QUANTIZED + "  TrainingArguments: {output_dir: /mnt}", "does not lie below /mnt"
    ),
    "results over the data": training(
        QUANTIZED + "  TrainingArguments: {output_dir: /mnt/data/x}",
        "output_dir is '/mnt/data/x'; /mnt/config, /mnt/data, /mnt/secrets are in use",
    ),
    "results in a number": training(
        QUANTIZED + "  TrainingArguments: {output_dir: 5}", "output_dir is 5; it must be a path"
    ),
}
