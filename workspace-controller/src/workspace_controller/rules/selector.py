"""Which nodes a Workspace may use: `resource.labelSelector`.

Invariant: an admitted selector can be put on a new node as plain labels, takes no foreign node and
overrides no label that tells who owns a node.
"""

import re
from collections.abc import Iterator
from typing import Final

from gpuapis import labels
from gpuapis.workspace import LabelSelector
from gpuapis.workspace_rules import LABEL_KEY, LABEL_VALUE
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

EMPTY = Rule("selector-empty", "The selector has at least one label.", server=True)
EXPRESSION = Rule(
    "selector-expression", "An expression is operator In with at least one value.", server=True
)
CONTRADICTION = Rule("selector-contradiction", "Every label has a value that fulfils all of it.")
RESERVED = Rule(
    "selector-reserved", "No label is one that the controller sets itself.", server=True
)
SYSTEM = Rule("selector-system", "No label is one of the system's, unless you bring the nodes.")
KEY = Rule("selector-key", "A label's key is one that Kubernetes takes.", server=True)
VALUE = Rule("selector-value", "A label's value is one that Kubernetes takes.", server=True)

FIELD: Final = "resource.labelSelector"
OTHERS_DOMAINS: Final = (
    "kubernetes.io",
    "k8s.io",
    "karpenter.sh",
    "kubernetes.azure.com",
    "kaito.sh",
)
OTHERS_KEYS: Final = ("agentpool", labels.ACCELERATOR)


def selector_findings(selector: LabelSelector, *, byo: bool) -> Iterator[Finding]:
    """What is wrong with the selector.

    Args:
        selector: the selector.
        byo: nodes are brought by the user, who may name any label that they have.
    """
    expressions = selector.match_expressions
    keys = [*selector.match_labels, *(each.key for each in expressions)]
    if not keys:
        yield EMPTY.broken(
            FIELD,
            "is empty, and would take any node. Give matchLabels at least one label of your own, "
            "such as apps: my-model",
        )
    yield from _taken(keys, byo=byo)
    for number, each in enumerate(expressions):
        if each.operator != "In" or not each.values:
            yield EXPRESSION.broken(
                f"{FIELD}.matchExpressions[{number}]",
                f"on {shown(each.key)} uses {each.operator} with {len(each.values)} values, and a "
                "new node gets the selector's labels: use matchLabels, or In, of which a new node "
                "gets the first value",
                f"{each.key} {each.operator} {each.values}",
            )
    asked: list[tuple[str, tuple[str, ...]]] = [
        (key, (value,)) for key, value in selector.match_labels.items()
    ]
    asked += [(each.key, each.values) for each in expressions if each.values]
    yield from _contradictions(asked)
    yield from _malformed(keys, [(key, value) for key, values in asked for value in values])


def _taken(keys: list[str], *, byo: bool) -> Iterator[Finding]:
    ours = sorted(filter(_ours, keys))
    if ours:
        yield RESERVED.broken(
            FIELD,
            f"uses {', '.join(ours)}, which the controller sets itself: use labels of your own, "
            "such as apps: my-model",
            ours,
        )
    others = sorted(key for key in keys if _others(key) and not _ours(key))
    if others and not byo:
        yield SYSTEM.broken(
            FIELD,
            f"uses {', '.join(others)}, which a new node cannot be given: labels of "
            f"{', '.join(OTHERS_DOMAINS)} are set by the system. Use labels of your own, such as "
            "apps: my-model; to use existing nodes first, name them in resource.preferredNodes",
            others,
        )


def _ours(key: str) -> bool:
    return key in labels.RESERVED_SELECTOR or key.startswith(labels.RESERVED_SELECTOR_PREFIX)


def _others(key: str) -> bool:
    domain, slash, _ = key.partition("/")
    if not slash:
        return key in OTHERS_KEYS
    return any(domain == each or domain.endswith(f".{each}") for each in OTHERS_DOMAINS)


def _contradictions(asked: list[tuple[str, tuple[str, ...]]]) -> Iterator[Finding]:
    allowed: dict[str, tuple[str, ...]] = {}
    for key, values in asked:
        before = allowed.get(key, values)
        allowed[key] = tuple(value for value in before if value in values)
        if not allowed[key]:
            sides = (" or ".join(shown(value) for value in side) for side in (before, values))
            yield CONTRADICTION.broken(
                FIELD, f"asks {shown(key)} to be both {' and '.join(sides)}: give one", key
            )
            return


def _malformed(keys: list[str], asked: list[tuple[str, str]]) -> Iterator[Finding]:
    for key in keys:
        if re.fullmatch(LABEL_KEY, key) is None:
            yield KEY.broken(
                FIELD,
                f"key {shown(key)} is no label key: use letters, digits, '-', '_' and '.', such as "
                "apps or example.com/apps",
                key,
            )
    for key, value in asked:
        if re.fullmatch(LABEL_VALUE, value) is None:
            yield VALUE.broken(
                FIELD,
                f"value {shown(value)} of {shown(key)} is no label value: use at most 63 letters, "
                "digits, '-', '_' and '.', beginning and ending with a letter or a digit",
                value,
            )
