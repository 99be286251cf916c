"""What the API server itself checks of a Workspace, in CEL, with no webhook in sight.

Invariant: a rule sits on the smallest part that shows the breach, or says by itself that it is for
new objects: so that an object which is older than a rule stays editable while that part stays as
it is. (The API server leaves out failures of parts that an update does not touch.)
"""

from typing import Any, Final

from controlkit.crdgen import Rule, rules
from gpuapis import labels

REQUIRED: Final = "FieldValueRequired"
FORBIDDEN: Final = "FieldValueForbidden"
ANEW: Final = "delete the Workspace and apply it anew"

_RESERVED: Final = ", ".join(f"'{key}'" for key in sorted(labels.RESERVED_SELECTOR))
_OURS: Final = f"k in [{_RESERVED}] || k.startsWith('{labels.RESERVED_SELECTOR_PREFIX}')"
_KEYS: Final = (
    "(has(self.matchLabels) ? self.matchLabels.map(k, k) : []) + "
    "(has(self.matchExpressions) ? self.matchExpressions.map(e, e.key) : [])"
)


def _same(field: str) -> str:
    """An optional field that may be neither given, nor taken away, nor changed."""
    return (
        f"has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field})"
    )


def _as_before(*fields: str) -> str:
    """Of an object that has some of these fields: it had the same of them before an update."""
    same = " && ".join(f"has(oldSelf.value().{field}) == has(self.{field})" for field in fields)
    return f"oldSelf.hasValue() && {same}"


WORKSPACE: Final[dict[str, Any]] = rules(
    Rule(
        f"has(self.inference) || has(self.tuning) || ({_as_before('inference', 'tuning')})",
        "say what to do: give inference, to serve a model, or tuning, to fine-tune one",
        field=".inference",
        reason=REQUIRED,
        optional_old=True,
    ),
    Rule(
        f"!(has(self.inference) && has(self.tuning)) || ({_as_before('inference', 'tuning')})",
        "inference is given as well, and a Workspace does one of both: use one Workspace for each",
        field=".tuning",
        reason=FORBIDDEN,
        optional_old=True,
    ),
    Rule(
        "has(self.inference) == has(oldSelf.inference)",
        f"inference cannot be added or removed: {ANEW}",
        field=".inference",
        reason=FORBIDDEN,
    ),
    Rule(
        "has(self.tuning) == has(oldSelf.tuning)",
        f"tuning cannot be added or removed: {ANEW}",
        field=".tuning",
        reason=FORBIDDEN,
    ),
    Rule(
        "!has(self.tuning) || self.resource.count == 1 || "
        "(oldSelf.hasValue() && oldSelf.value().resource.count == self.resource.count)",
        "a fine-tuning runs on one machine: leave resource.count at 1, and take a larger "
        "resource.instanceType where one is too small",
        field=".resource.count",
        optional_old=True,
    ),
    Rule(
        f"oldSelf.hasValue() || self.metadata.name.matches('^{labels.SERVICE_NAME}$')",
        "the name names a Service and labels nodes, so it must be at most 63 characters of a-z, "
        "0-9 and -, beginning with a letter and ending with a letter or digit",
        computed=(
            "'the name \"' + self.metadata.name + '\" names a Service and labels nodes, so it must "
            "be at most 63 characters of a-z, 0-9 and -, beginning with a letter and ending with a "
            "letter or digit'"
        ),
        field=".metadata.name",
        optional_old=True,
    ),
)

RESOURCE: Final[dict[str, Any]] = rules(
    Rule(
        _same("instanceType"),
        f"instanceType cannot change: {ANEW}, with the new size",
        computed=(
            "'instanceType cannot change' + (has(oldSelf.instanceType) ? ' from ' + "
            "oldSelf.instanceType : '') + (has(self.instanceType) ? ' to ' + self.instanceType : "
            f"'') + ': {ANEW}, with the new size'"
        ),
        field=".instanceType",
        reason=FORBIDDEN,
    ),
    Rule(
        "self.labelSelector == oldSelf.labelSelector",
        f"labelSelector cannot change: {ANEW}, with the new one",
        field=".labelSelector",
        reason=FORBIDDEN,
    ),
)

SELECTOR: Final[dict[str, Any]] = rules(
    Rule(
        "(has(self.matchLabels) && size(self.matchLabels) > 0) || "
        "(has(self.matchExpressions) && size(self.matchExpressions) > 0)",
        "labelSelector is empty, and would take any node: give matchLabels at least one label of "
        "your own, such as apps: my-model",
        reason=REQUIRED,
    ),
    Rule(
        f"!({_KEYS}).exists(k, {_OURS})",
        "labelSelector uses a label that the controller sets itself: use labels of your own, such "
        "as apps: my-model",
        computed=(
            f"'labelSelector uses ' + ({_KEYS}).filter(k, {_OURS})[0] + ', which the "
            "controller sets itself: use labels of your own, such as apps: my-model'"
        ),
        reason=FORBIDDEN,
    ),
)

LABEL_KEY: Final = (
    r"([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
)
LABEL_VALUE: Final = "([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"

_KEY_SYNTAX: Final = "use letters, digits, '-', '_' and '.', such as apps or example.com/apps"

MATCH_LABELS: Final[dict[str, Any]] = rules(
    Rule(
        f"self.all(k, k.matches('^{LABEL_KEY}$'))",
        f"a key is no label key: {_KEY_SYNTAX}",
        computed=(
            f"'key \"' + self.filter(k, !k.matches('^{LABEL_KEY}$'))[0] + '\" is no label key: ' + "
            f'"{_KEY_SYNTAX}"'
        ),
    ),
)

KEY: Final[dict[str, Any]] = rules(
    Rule(f"self.matches('^{LABEL_KEY}$')", f"this is no label key: {_KEY_SYNTAX}"),
)

VALUE: Final[dict[str, Any]] = rules(
    Rule(
        f"self.matches('^{LABEL_VALUE}$')",
        "this is no label value: use at most 63 letters, digits, '-', '_' and '.', beginning and "
        "ending with a letter or a digit",
    ),
)

REQUIREMENT: Final[dict[str, Any]] = rules(
    Rule(
        "self.operator == 'In' && has(self.values) && size(self.values) > 0",
        "a new node gets the selector's labels, so an expression must name values: use "
        "matchLabels, or operator In, of which a new node gets the first value",
        computed=(
            "'the expression on \"' + self.key + '\" uses ' + self.operator + (self.operator == 'In' "
            "? ' without a value' : '') + ', and a new node gets the selector\\'s labels: "
            "use matchLabels, or operator In, of which a new node gets the first value'"
        ),
    ),
)

PRESET: Final[dict[str, Any]] = rules(
    Rule(
        "self.accessMode != 'private' || "
        "(has(self.presetOptions) && has(self.presetOptions.image) && self.presetOptions.image != '')",
        "a private preset needs the image that holds the runtime and the weights: give "
        "presetOptions.image",
        field=".presetOptions.image",
        reason=REQUIRED,
    ),
)

INFERENCE: Final[dict[str, Any]] = rules(
    Rule(
        f"has(self.preset) || has(self.template) || ({_as_before('preset', 'template')})",
        "inference takes exactly one of preset and template, and neither is given",
        field=".preset",
        reason=REQUIRED,
        optional_old=True,
    ),
    Rule(
        f"!(has(self.preset) && has(self.template)) || ({_as_before('preset', 'template')})",
        "inference takes exactly one of preset and template, and both are given",
        field=".template",
        reason=FORBIDDEN,
        optional_old=True,
    ),
    Rule(
        _same("preset"),
        f"inference.preset cannot change: {ANEW}",
        field=".preset",
        reason=FORBIDDEN,
    ),
    Rule(
        "has(self.template) == has(oldSelf.template)",
        f"inference.template can change, but not be added or removed: {ANEW}",
        field=".template",
        reason=FORBIDDEN,
    ),
)

MOST_ADAPTERS: Final = 10
_ALONE: Final = (
    "!has(a.source) || !has(a.source.name) || self.exists_one(b, has(b.source) && "
    "has(b.source.name) && b.source.name == a.source.name)"
)

ADAPTERS: Final[dict[str, Any]] = rules(
    Rule(
        f"size(self) <= {MOST_ADAPTERS}",
        f"at most {MOST_ADAPTERS} adapters are allowed",
    ),
    Rule(
        f"self.all(a, {_ALONE})",
        "two adapters share a name: each needs a name of its own",
    ),
)

STRENGTH: Final = r"(0(\.[0-9]+)?|\.[0-9]+|1(\.0+)?)"
ADAPTER_NAME: Final = "[a-z0-9]([-a-z0-9]{0,53}[a-z0-9])?"
"""Part of a container's and a volume's name, which have 63 characters at most."""

ADAPTER: Final[dict[str, Any]] = rules(
    Rule(
        "has(self.source)",
        "say where the adapter comes from: source with a name and one of image, volumeSource and "
        "workspace",
        field=".source",
        reason=REQUIRED,
    ),
)

ADAPTER_STRENGTH: Final[dict[str, Any]] = rules(
    Rule(
        f"self.matches('^{STRENGTH}$')".replace("\\", "\\\\"),
        "strength is a decimal number from 0 to 1, such as 0.5",
    ),
)

ADAPTERS_NAME: Final[dict[str, Any]] = rules(
    Rule(
        f"self.matches('^{ADAPTER_NAME}$')",
        "an adapter's name has 1 to 55 characters of a-z, 0-9 and -, beginning and ending with a "
        "letter or digit",
    ),
)

ADAPTER_SOURCE: Final[dict[str, Any]] = rules(
    Rule(
        "has(self.name)",
        "an adapter needs a name, by which requests choose it",
        field=".name",
        reason=REQUIRED,
    ),
    Rule(
        "!has(self.urls) || size(self.urls) == 0",
        "urls are for training data: give the adapter an image, a volumeSource or a workspace",
        field=".urls",
        reason=FORBIDDEN,
    ),
    Rule(
        "[has(self.image), has(self.volumeSource), has(self.workspace)].filter(g, g).size() == 1",
        "an adapter comes from exactly one of image, volumeSource and workspace",
    ),
)

TUNING_METHOD: Final[dict[str, Any]] = rules(
    Rule(
        "self.lowerAscii() in ['lora', 'qlora']",
        "method is lora or qlora",
    ),
)

TUNING: Final[dict[str, Any]] = rules(
    Rule(
        f"has(self.preset) || ({_as_before('preset')})",
        "name the model to tune",
        field=".preset",
        reason=REQUIRED,
        optional_old=True,
    ),
    Rule(
        f"has(self.method) || ({_as_before('method')})",
        "say how: lora or qlora",
        field=".method",
        reason=REQUIRED,
        optional_old=True,
    ),
    Rule(
        _same("preset"), f"tuning.preset cannot change: {ANEW}", field=".preset", reason=FORBIDDEN
    ),
    Rule(
        "has(self.method) == has(oldSelf.method) && "
        "(!has(self.method) || self.method.lowerAscii() == oldSelf.method.lowerAscii())",
        f"tuning.method cannot change: {ANEW}",
        field=".method",
        reason=FORBIDDEN,
    ),
    Rule(
        "has(self.input.name) == has(oldSelf.input.name) && "
        "(!has(self.input.name) || self.input.name == oldSelf.input.name)",
        f"tuning.input.name cannot change: {ANEW}",
        field=".input.name",
        reason=FORBIDDEN,
    ),
)

SOURCE: Final[dict[str, Any]] = rules(
    Rule(
        "[has(self.urls) && size(self.urls) > 0, has(self.volumeSource), has(self.image)]"
        ".filter(g, g).size() == 1",
        "data comes from exactly one of urls, volumeSource and image",
    ),
)

DESTINATION: Final[dict[str, Any]] = rules(
    Rule(
        "has(self.image) != has(self.volumeSource)",
        "the result goes to exactly one of image and volumeSource",
    ),
    Rule(
        "!has(self.image) || has(self.imagePushSecret)",
        "pushing an image takes imagePushSecret: a Secret of type kubernetes.io/dockerconfigjson "
        "in the Workspace's namespace",
        field=".imagePushSecret",
        reason=REQUIRED,
    ),
)
