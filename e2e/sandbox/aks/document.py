"""The shape of everything that the emulator stores or exchanges on its control API.

Invariant: a document survives a round trip through its JSON text, and an unknown field is refused
by name, so that a misspelt fault never passes for a fault without effect.
"""

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.alias_generators import to_camel


class Document(BaseModel):
    """A JSON document with camelCase names."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        validate_assignment=True,
        use_attribute_docstrings=True,
    )

    def text(self) -> str:
        """Returns the document as JSON text."""
        return self.model_dump_json(by_alias=True)

    def json_dict(self) -> dict[str, object]:
        """Returns the document as a dict that `json.dumps` takes."""
        return self.model_dump(mode="json", by_alias=True)

    def merged(self, patch: dict[str, object]) -> Self:
        """Returns a copy with a JSON merge patch applied (RFC 7386): null restores a default."""
        return type(self).model_validate(merge_patch(self.json_dict(), patch))


def merge_patch(target: dict[str, object], patch: dict[str, object]) -> dict[str, object]:
    """Returns the target with a JSON merge patch applied; null removes."""
    merged = dict(target)
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict):
            present = merged.get(key)
            merged[key] = merge_patch(present if isinstance(present, dict) else {}, value)
        else:
            merged[key] = value
    return merged


def problems(error: ValidationError) -> list[str]:
    """Returns one sentence per refused field: where it is, what is wrong, what was sent."""
    return [
        f"{'.'.join(str(part) for part in item['loc']) or '(document)'}: {item['msg']}"
        f" (sent: {str(item['input'])[:100]})"
        for item in error.errors(include_url=False)
    ]
