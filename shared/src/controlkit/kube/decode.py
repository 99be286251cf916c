"""From the API server's bytes to typed views, decoded once.

Invariant: an object that does not fit its view is reported and left out, and never hides the
others; a watch line is one event or an error.
"""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Generic, Literal, TypeVar

import structlog
from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from controlkit.errors import Rejected, Transient
from controlkit.kube.errors import Status, refusal
from controlkit.kube.objects import ApiModel, Key, KubeObject, ObjectMeta
from controlkit.metrics import UNREADABLE

T = TypeVar("T", bound=KubeObject)

log = structlog.get_logger(__name__)


class _ListMeta(ApiModel):
    resource_version: str = ""
    next_page: Annotated[str, Field(alias="continue")] = ""


class _List(ApiModel, Generic[T]):
    metadata: _ListMeta
    items: list[T]


class Bare(ApiModel):
    """Any object or event, as far as its metadata."""

    metadata: ObjectMeta = Field(default_factory=ObjectMeta)


class _Changed(ApiModel, Generic[T]):
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: T


class _Bookmark(ApiModel):
    type: Literal["BOOKMARK"]
    object: Bare


class _Failed(ApiModel):
    type: Literal["ERROR"]
    object: Status


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a collection.

    Attributes:
        items: the objects; those our view could not read are left out, and logged.
        resource_version: the collection's.
        following: token for the next page; "" on the last.
    """

    items: list[T]
    resource_version: str
    following: str


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[T]):
    """One step of a collection's history.

    Attributes:
        type: what happened; a bookmark only moves the resource_version on.
        object: the object after the change (before it, when deleted); None for a bookmark and
            for an object that our view could not read.
        resource_version: where a new watch would go on from.
        key: the object's name, also when our view could not read it.
    """

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: T | None
    resource_version: str
    key: Key


@cache
def _list_of(view: type[T]) -> TypeAdapter[_List[T]]:
    generic: Any = _List
    return TypeAdapter(generic[view])


@cache
def _line_of(view: type[T]) -> TypeAdapter[_Changed[T] | _Bookmark | _Failed]:
    generic: Any = _Changed
    either: Any = generic[view] | _Bookmark | _Failed
    return TypeAdapter(Annotated[either, Field(discriminator="type")])


def mapping(answer: bytes) -> dict[str, Any]:
    """A JSON object as it is."""
    parsed: dict[str, Any] = from_json(answer)
    return parsed


def page(view: type[T], call: str, answer: bytes) -> Page[T]:
    """Decodes one page of a list.

    Raises:
        Transient: it is no list.
    """
    try:
        listed = _list_of(view).validate_json(answer)
    except ValidationError:
        return _readable_part(view, call, answer)
    return Page(listed.items, listed.metadata.resource_version, listed.metadata.next_page)


def _readable_part(view: type[T], call: str, answer: bytes) -> Page[T]:
    try:
        raw = mapping(answer)
        meta = _ListMeta.model_validate(raw["metadata"])
        found = list(raw["items"] or ())
    except (ValueError, KeyError, TypeError) as error:
        raise Transient("Garbled", f"{call} answered what is no list") from error
    items = []
    for each in found:
        try:
            items.append(view.model_validate_json(to_json(each)))
        except ValidationError as error:
            _report(view, Bare.model_validate(each).metadata, error)
    return Page(items, meta.resource_version, meta.next_page)


def event(view: type[T], call: str, line: bytes) -> WatchEvent[T]:
    """Decodes one line of a watch.

    Raises:
        ControlError: what an in-band ERROR says, or Transient when it is no event.
    """
    try:
        said = _line_of(view).validate_json(line)
    except ValidationError as error:
        return _unreadable_event(view, call, line, error)
    match said:
        case _Failed(object=status):
            raise refusal(call, status)
        case _Bookmark(object=bare):
            version = bare.metadata.resource_version
            return WatchEvent("BOOKMARK", None, version, _key(bare.metadata))
        case _:
            item = said.object
            return WatchEvent(said.type, item, item.metadata.resource_version, item.key)


def _unreadable_event(
    view: type[T], call: str, line: bytes, error: ValidationError
) -> WatchEvent[T]:
    try:
        raw = mapping(line)
        kind, metadata = raw["type"], Bare.model_validate(raw["object"]).metadata
    except (ValueError, KeyError, TypeError) as garbled:
        raise Transient("Garbled", f"{call} sent a line that is no event") from garbled
    _report(view, metadata, error)
    return WatchEvent(kind, None, metadata.resource_version, _key(metadata))


def unreadable(call: str, error: ValidationError) -> Rejected:
    """The error for an answer that does not fit the view: names the first wrong field."""
    return Rejected("Unreadable", f"{call} answered an object with {_problems(error)[0]}")


def _key(metadata: ObjectMeta) -> Key:
    return Key(metadata.namespace, metadata.name)


def _report(view: type[KubeObject], metadata: ObjectMeta, error: ValidationError) -> None:
    UNREADABLE.labels(view.RESOURCE.kind).inc()
    log.error(
        "object does not fit our view of its kind; it is ignored until it does",
        kind=view.RESOURCE.kind,
        object=str(_key(metadata)),
        problems=_problems(error)[:5],
    )


def _problems(error: ValidationError) -> list[str]:
    return [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
