"""A structural schema, evaluated as the API server evaluates it.

Written from the API's documentation and apart from the types that the schema is made of, so that a
mistake in those shows.
"""

from typing import Any

Schema = dict[str, Any]
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
KEPT = "x-kubernetes-preserve-unknown-fields"


def stored(value: Any, schema: Schema) -> Any:
    """The value without unknown fields and nulls, and with defaults; a wrong type stays."""
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        given = {name: each["default"] for name, each in known.items() if "default" in each}
        return given | {
            name: stored(each, known[name])
            for name, each in value.items()
            if name in known and each is not None
        }
    if isinstance(value, dict) and "additionalProperties" in schema:
        values = schema["additionalProperties"]
        return {k: stored(each, values) for k, each in value.items() if each is not None}
    if isinstance(value, list) and schema["type"] == "array":
        return [stored(each, schema["items"]) for each in value]
    return value


def fits(value: Any, schema: Schema) -> bool:
    """Whether a stored value keeps the schema, its CEL rules apart."""
    if not isinstance(value, TYPES[schema["type"]]):
        return False
    if isinstance(value, bool) and schema["type"] != "boolean":
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    return _within_bounds(value, schema) and _parts_fit(value, schema)


def _within_bounds(value: Any, schema: Schema) -> bool:
    if isinstance(value, str | list | dict):
        bounds = {str: "maxLength", list: "maxItems", dict: "maxProperties"}
        return len(value) <= int(schema.get(bounds[type(value)], len(value)))
    return bool(schema.get("minimum", value) <= value <= schema.get("maximum", value))


def _parts_fit(value: Any, schema: Schema) -> bool:
    if isinstance(value, list):
        return all(fits(each, schema["items"]) for each in value)
    if not isinstance(value, dict) or schema.get(KEPT):
        return True
    if any(name not in value for name in schema.get("required", ())):
        return False
    known, others = schema.get("properties", {}), schema.get("additionalProperties")
    for name, each in value.items():
        part: Schema | None = known.get(name, others)
        if part is not None and not fits(each, part):
            return False
    return True
