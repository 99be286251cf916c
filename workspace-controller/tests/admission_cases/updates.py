"""Updates: what was, what is to be, and the words of the refusal; "" where it passes."""

from typing import Any, Final

from admission_cases.builders import FALCON, TEMPLATE, adapter, adapters, tuning

UPDATES: Final[dict[str, tuple[dict[str, Any], dict[str, Any], str]]] = {
    "another count": ({}, {"resource": {"count": 3}}, ""),
    "other preferred nodes": ({}, {"resource": {"preferredNodes": ["a"]}}, ""),
    "another size": ({}, {"size": "Standard_NC6s_v3"}, "instanceType cannot change"),
    "another selector": (
        {},
        {"selector": {"matchLabels": {"b": "c"}}},
        "labelSelector cannot change",
    ),
    "another preset": ({}, {"inference": FALCON}, "inference.preset cannot change"),
    "a template for a preset": (
        {},
        {"inference": TEMPLATE},
        "inference.template cannot be added or removed",
    ),
    "another template": (
        {"inference": TEMPLATE},
        {"inference": {"template": {"spec": {"containers": [{"name": "a", "image": "c"}]}}}},
        "",
    ),
    "a broken template": (
        {"inference": TEMPLATE},
        {"inference": {"template": {"spec": {"containers": []}}}},
        "inference.template.spec.containers",
    ),
    "another adapter": (
        adapters(adapter("a")),
        adapters(adapter("a"), adapter("b", strength="0.5")),
        "",
    ),
    "a broken adapter beside a sound one": (
        adapters(adapter("a")),
        adapters(adapter("a"), adapter("B")),
        "inference.adapters[1].source.name 'B' cannot name an adapter",
    ),
    "a sound adapter beside a broken one": (
        adapters(adapter("A")),
        adapters(adapter("b"), adapter("A")),
        "",
    ),
    "a second adapter as broken as the first": (
        adapters({}),
        adapters({}, {}),
        "inference.adapters[1].source is missing",
    ),
    "a broken adapter mended in part": (
        adapters(adapter("A", strength="2")),
        adapters(adapter("A", strength="1")),
        "",
    ),
    "other data": (tuning(), tuning(input={"urls": ["https://example.com/b"]}), ""),
    "broken data": (tuning(), tuning(input={"urls": ["b"]}), "tuning.input.urls[0] 'b' is no URL"),
    "another place for the result": (
        tuning(),
        tuning(output={"image": "example.com/b", "imagePushSecret": "s"}),
        "",
    ),
    "the method in another case": (tuning(method="qlora"), tuning(method="QLoRA"), ""),
    "another method": (
        tuning(method="qlora"),
        tuning(method="lora"),
        "tuning.method cannot change from 'qlora' to 'lora'",
    ),
    "another model to tune": (
        tuning(),
        tuning(preset={"name": "phi-3-mini-4k-instruct"}),
        "tuning.preset cannot change",
    ),
    "another name of the data": (
        tuning(input={"name": "a", "urls": ["https://example.com/b"]}),
        tuning(input={"name": "b", "urls": ["https://example.com/b"]}),
        "tuning.input.name cannot change from 'a' to 'b'",
    ),
    "two machines for a tuning": (
        tuning(),
        tuning() | {"resource": {"count": 2}},
        "resource.count is 2, and a fine-tuning runs on one machine",
    ),
    "tuning for inference": (
        {},
        {"inference": None, "tuning": tuning()["tuning"]},
        "inference cannot be added or removed",
    ),
}
