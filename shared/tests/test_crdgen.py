"""What a type may say, what its schema then says, and what is refused."""

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import ConfigDict, Field, create_model

from controlkit.crdgen import (
    Rule,
    SchemaError,
    int_or_string,
    map_list,
    open_object,
    rule,
    rules,
    structural_schema,
)
from controlkit.kube.objects import ApiModel, KubeObject, Resource


def schema_of(annotation: Any, default: Any = ...) -> dict[str, Any]:
    """The schema of one field with this annotation, on an otherwise empty kind."""

    class Thing(KubeObject):
        RESOURCE: ClassVar[Resource] = Resource("example.com", "v1", "things", "Thing")

    kind = create_model("Kind", __base__=Thing, field=(annotation, default))
    return dict(structural_schema(kind)["properties"]["field"])


class Inner(ApiModel):
    """An inner object."""

    size_gb: int = 0
    """How large,
    in gigabytes."""


def test_an_optional_field_is_absent_not_null() -> None:
    assert schema_of(str | None, None) == {"type": "string"}


def test_a_nested_type_stands_inline_under_its_api_name() -> None:
    inner = schema_of(Inner)
    assert inner["description"] == "An inner object."
    assert inner["properties"]["sizeGb"] == {
        "type": "integer",
        "default": 0,
        "description": "How large, in gigabytes.",
    }


def test_one_allowed_word_is_an_enum_of_one() -> None:
    assert schema_of(Literal["public"])["enum"] == ["public"]


def test_an_exclusive_bound_is_written_as_bound_and_flag() -> None:
    assert schema_of(Annotated[int, Field(gt=3)]) == {
        "type": "integer",
        "minimum": 3,
        "exclusiveMinimum": True,
    }


def test_an_open_object_keeps_what_it_does_not_know() -> None:
    assert schema_of(Annotated[dict[str, Any], open_object()]) == {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
    }


def test_a_quantity_may_be_a_number_or_text() -> None:
    quantity = schema_of(Annotated[str | int, int_or_string("^[0-9]+$")])
    assert quantity["x-kubernetes-int-or-string"] is True
    assert quantity["anyOf"] == [{"type": "integer"}, {"type": "string"}]


def test_empty_defaults_are_not_written_into_every_object() -> None:
    assert "default" not in schema_of(tuple[str, ...], ())
    assert "default" not in schema_of(str, "")
    assert schema_of(int, 1)["default"] == 1


def test_a_list_may_be_merged_by_key() -> None:
    listed = schema_of(Annotated[tuple[Inner, ...], Field(json_schema_extra=map_list("sizeGb"))])
    assert listed["x-kubernetes-list-map-keys"] == ["sizeGb"]


def test_a_union_is_refused_with_its_path() -> None:
    with pytest.raises(SchemaError, match=r"^Thing\.field: a union"):
        schema_of(int | str)


def test_an_untyped_field_is_refused() -> None:
    with pytest.raises(SchemaError, match="a type is needed"):
        schema_of(Any)


@pytest.mark.parametrize(
    ("annotation", "bound"),
    [(str, "maxLength"), (tuple[str, ...], "maxItems"), (dict[str, str], "maxProperties")],
)
def test_a_rule_on_an_endless_value_is_refused(annotation: Any, bound: str) -> None:
    ruled = Annotated[annotation, Field(json_schema_extra=rule("self == oldSelf", "no change"))]
    with pytest.raises(SchemaError, match=f"a CEL rule needs {bound}"):
        schema_of(ruled)


def test_a_rule_says_only_what_it_was_told() -> None:
    full = Rule("a", "b", computed="c", field=".d", reason="FieldValueForbidden", optional_old=True)
    assert rules(("a", "b"), full)["x-kubernetes-validations"] == [
        {"rule": "a", "message": "b"},
        {
            "rule": "a",
            "message": "b",
            "messageExpression": "c",
            "fieldPath": ".d",
            "reason": "FieldValueForbidden",
            "optionalOldSelf": True,
        },
    ]


def test_a_kind_with_rules_bounds_the_name_that_they_may_look_at() -> None:
    class Thing(KubeObject):
        model_config = ConfigDict(json_schema_extra=rules(("has(self.metadata)", "needed")))
        RESOURCE: ClassVar[Resource] = Resource("example.com", "v1", "things", "Thing")

    metadata = structural_schema(Thing)["properties"]["metadata"]
    assert metadata["properties"]["name"]["maxLength"] == 253


def test_the_api_servers_own_fields_stay_open() -> None:
    class Thing(KubeObject):
        RESOURCE: ClassVar[Resource] = Resource("example.com", "v1", "things", "Thing")

    assert structural_schema(Thing)["properties"] == {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
    }
