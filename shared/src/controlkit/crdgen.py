"""Turns an API type into a structural CustomResourceDefinition.

Invariant: what comes out is accepted by the API server or refused here with the field's path;
nothing is dropped in silence. Docstrings become the text of `kubectl explain`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import WithJsonSchema

from controlkit.kube.objects import KubeObject

Schema = dict[str, Any]

_KEPT = frozenset(
    {
        "type", "format", "description", "enum", "pattern", "default", "required", "nullable",
        "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties",
    }
)  # fmt: skip
_DROPPED = frozenset({"title", "propertyNames", "additionalProperties", "properties", "items"})
_UNBOUNDED = {"string": "maxLength", "array": "maxItems"}


class SchemaError(ValueError):
    """A type that no structural schema can express; the text starts with the field's path."""


@dataclass(frozen=True)
class Column:
    """A column of `kubectl get`; `priority` above 0 shows it only with `-o wide`."""

    name: str
    type: str
    path: str
    priority: int = 0


@dataclass(frozen=True)
class Version:
    """One served version of a kind; all versions share the schema."""

    name: str
    storage: bool
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class Rule:
    """A CEL rule of a field or a model.

    Attributes:
        expression: true for what is allowed.
        message: what a person is told otherwise.
        computed: a CEL expression of that text, where it has to name what was found.
        field: which field of the object is to blame, as a path such as `.preset`; "" for all of it.
        reason: what is wrong with it, `FieldValueInvalid` unless said.
        optional_old: the rule reads `oldSelf` as an optional value, and holds on creation too.
    """

    expression: str
    message: str
    computed: str = ""
    field: str = ""
    reason: str = ""
    optional_old: bool = False

    def written(self) -> dict[str, Any]:
        """The rule as a CustomResourceDefinition has it."""
        found: dict[str, Any] = {"rule": self.expression, "message": self.message}
        if self.computed:
            found["messageExpression"] = self.computed
        if self.field:
            found["fieldPath"] = self.field
        if self.reason:
            found["reason"] = self.reason
        if self.optional_old:
            found["optionalOldSelf"] = True
        return found


def rule(expression: str, message: str) -> dict[str, Any]:
    """A CEL rule, for `json_schema_extra` of a field."""
    return rules((expression, message))


def rules(*given: Rule | tuple[str, str]) -> dict[str, Any]:
    """CEL rules, the plain ones as (expression, message), for `json_schema_extra`."""
    found = [each if isinstance(each, Rule) else Rule(*each) for each in given]
    return {"x-kubernetes-validations": [each.written() for each in found]}


def map_list(*keys: str) -> dict[str, Any]:
    """A list that is merged item by item on `keys`, for `json_schema_extra` of a field."""
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}


def int_or_string(pattern: str) -> WithJsonSchema:
    """A value that YAML may write as a number or as text, such as a quantity."""
    return WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": pattern,
            "x-kubernetes-int-or-string": True,
        }
    )


def open_object() -> WithJsonSchema:
    """An object whose fields are somebody else's to check."""
    return WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True})


def crd(
    view: type[KubeObject],
    *,
    singular: str,
    versions: Sequence[Version],
    short_names: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> dict[str, Any]:
    """The CustomResourceDefinition of `view`.

    Raises:
        SchemaError: a field has a type that a structural schema cannot express.
    """
    kind = view.RESOURCE
    schema = structural_schema(view)
    names: dict[str, Any] = {
        "kind": kind.kind,
        "listKind": f"{kind.kind}List",
        "plural": kind.plural,
        "singular": singular,
    }
    if short_names:
        names["shortNames"] = list(short_names)
    if categories:
        names["categories"] = list(categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}"},
        "spec": {
            "group": kind.group,
            "names": names,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "versions": [_version(version, schema) for version in versions],
        },
    }


def structural_schema(view: type[KubeObject]) -> Schema:
    """The structural OpenAPI schema of `view`, with the API server's own three fields open."""
    raw = view.model_json_schema(by_alias=True)
    schema = _node(raw, raw.get("$defs", {}), view.RESOURCE.kind)
    metadata: Schema = {"type": "object"}
    if "x-kubernetes-validations" in schema:
        # A rule about the name is priced by its length, of which CEL does not know the API's bound.
        name = {"description": "The object's name.", "type": "string", "maxLength": 253}
        metadata["properties"] = {"name": name}
    schema["properties"] = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": metadata,
        **{
            name: value
            for name, value in schema.get("properties", {}).items()
            if name not in {"apiVersion", "kind", "metadata"}
        },
    }
    required = [name for name in schema.pop("required", []) if name != "metadata"]
    if required:
        schema["required"] = required
    return schema


def _version(version: Version, schema: Schema) -> dict[str, Any]:
    return {
        "name": version.name,
        "served": True,
        "storage": version.storage,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(column) for column in version.columns],
        "schema": {"openAPIV3Schema": schema},
    }


def _column(column: Column) -> dict[str, Any]:
    shown = {"name": column.name, "type": column.type, "jsonPath": column.path}
    return shown | ({"priority": column.priority} if column.priority else {})


def _node(raw: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Schema:
    """Translate one node of pydantic's JSON schema, and all below it."""
    raw = _resolved(raw, defs, path)
    extensions = {key: value for key, value in raw.items() if key.startswith("x-kubernetes-")}
    if "x-kubernetes-int-or-string" in extensions:
        return _described(raw, {"anyOf": raw["anyOf"], "pattern": raw["pattern"], **extensions})
    _refuse_unknown(raw, path)
    out: Schema = {key: raw[key] for key in raw if key in _KEPT}
    if "description" in out:
        out["description"] = _one_paragraph(out["description"])
    if not _worth_writing(out.get("default")):
        out.pop("default", None)
    for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if bound in out:
            out[limit], out[bound] = out[bound], True
    if "const" in raw:
        out["enum"] = [raw["const"]]
    _children(raw, out, defs, path)
    _refuse_unbounded_rule(out, extensions, path)
    return out | extensions


def _children(raw: Mapping[str, Any], out: Schema, defs: Mapping[str, Any], path: str) -> None:
    if "properties" in raw:
        out["properties"] = {
            name: _node(child, defs, f"{path}.{name}") for name, child in raw["properties"].items()
        }
    if "items" in raw:
        out["items"] = _node(raw["items"], defs, f"{path}[]")
    values = raw.get("additionalProperties")
    if isinstance(values, Mapping):
        out["additionalProperties"] = _node(values, defs, f"{path}{{}}")
    elif values is True:
        out["x-kubernetes-preserve-unknown-fields"] = True


def _resolved(raw: Mapping[str, Any], defs: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """Follow `$ref`, and take `X | None` for an optional X, until the node stands for itself."""
    while True:
        if "$ref" in raw:
            target = defs[raw["$ref"].rpartition("/")[2]]
            raw = {**target, **{key: value for key, value in raw.items() if key != "$ref"}}
        elif "anyOf" in raw and "x-kubernetes-int-or-string" not in raw:
            members = [member for member in raw["anyOf"] if member.get("type") != "null"]
            if len(members) != 1:
                raise SchemaError(f"{path}: a union of types has no structural schema")
            raw = {**members[0], **{key: value for key, value in raw.items() if key != "anyOf"}}
        else:
            return raw


def _refuse_unknown(raw: Mapping[str, Any], path: str) -> None:
    known = _KEPT | _DROPPED | {"const", "$defs"}
    unknown = [key for key in raw if key not in known and not key.startswith("x-kubernetes-")]
    if unknown:
        raise SchemaError(f"{path}: no structural schema knows {', '.join(sorted(unknown))}")
    if "type" not in raw:
        raise SchemaError(f"{path}: a type is needed")


def _refuse_unbounded_rule(node: Schema, extensions: Mapping[str, Any], path: str) -> None:
    """The API server prices a rule by the largest value it could meet, and refuses the endless."""
    if "x-kubernetes-validations" not in extensions:
        return
    bound = _UNBOUNDED.get(node["type"])
    if node["type"] == "object" and "additionalProperties" in node:
        bound = "maxProperties"
    if bound and bound not in node and "enum" not in node:
        raise SchemaError(f"{path}: a CEL rule needs {bound} on a {node['type']}")


def _described(raw: Mapping[str, Any], schema: Schema) -> Schema:
    text = raw.get("description")
    return {"description": _one_paragraph(text), **schema} if text else schema


def _one_paragraph(text: str) -> str:
    """Docstrings wrap for the editor; `kubectl explain` wraps for itself."""
    return re.sub(r"\s*\n\s*", " ", text.strip())


def _worth_writing(default: object) -> bool:
    """Empty defaults would be written into every object, and say nothing."""
    return isinstance(default, bool | int | float | str) and default != ""


def walk(schema: Schema, path: str = "") -> Iterable[tuple[str, Schema]]:
    """Every node of a structural schema with its path, for tests that look for missing texts."""
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from walk(child, f"{path}.{name}")
    if "items" in schema:
        yield from walk(schema["items"], f"{path}[]")
