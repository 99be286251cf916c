"""Typed, immutable projections of Kubernetes objects: the fields we read and no others.

Invariant: a view never holds what its class does not name, and `manifest` writes exactly what
was set, so a view that was read can never undo another writer's field.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, NamedTuple
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def _seconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _microseconds(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Time = Annotated[datetime, PlainSerializer(_seconds, when_used="json-unless-none")]
"""RFC 3339 in whole seconds, always UTC: `metav1.Time`."""

MicroTime = Annotated[datetime, PlainSerializer(_microseconds, when_used="json-unless-none")]
"""RFC 3339 with microseconds, always UTC: `metav1.MicroTime`, as Leases hold it."""


_FIELDS_SET: Final[dict[frozenset[str], set[str]]] = {}
"""One set for each combination of fields that occurred: as many as there are shapes of objects."""


class ApiModel(BaseModel):
    """A JSON object of the API: camelCase outside, snake_case inside, frozen."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        use_attribute_docstrings=True,
    )

    def model_post_init(self, _context: Any, /) -> None:
        """Shares the record of which fields were set among all objects that look alike.

        A set of its own takes more room than most of our objects: by the thousand, in caches, that
        is a third of the memory. Nobody writes to it, since the models are frozen.
        """
        own = self.__pydantic_fields_set__
        shared = _FIELDS_SET.setdefault(frozenset(own), own)
        object.__setattr__(self, "__pydantic_fields_set__", shared)

    def manifest(self) -> dict[str, Any]:
        """The fields that were set, as JSON types under their API names."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


@dataclass(frozen=True, slots=True)
class Resource:
    """Where the API server serves a kind.

    Attributes:
        group: API group, "" for the core group.
        version: such as "v1".
        plural: the path segment, such as "pods".
        kind: such as "Pod".
        namespaced: False for cluster-scoped kinds.
    """

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`group/version`, or the bare version for the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path of the group and version, where discovery lists its kinds."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def path(
        self, namespace: str | None = None, name: str | None = None, subresource: str | None = None
    ) -> str:
        """The URL path of a collection, an object or its subresource.

        Without a namespace, a namespaced collection spans all namespaces.

        Raises:
            ValueError: an object of a namespaced kind was named without its namespace.
        """
        parts = [self.root]
        if self.namespaced and namespace:
            parts += ["namespaces", quote(namespace, safe="")]
        elif self.namespaced and name:
            raise ValueError(f"{self.kind} {name!r} needs a namespace")
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=""))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)


class Key(NamedTuple):
    """What names an object among its kind; the namespace is "" when cluster-scoped."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class OwnerReference(ApiModel):
    """The object whose deletion takes this one along."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False
    block_owner_deletion: bool = False


class ObjectMeta(ApiModel):
    """The metadata every object carries."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    creation_timestamp: Time | None = None
    deletion_timestamp: Time | None = None
    finalizers: tuple[str, ...] = ()
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    owner_references: tuple[OwnerReference, ...] = ()


class KubeObject(ApiModel):
    """A top-level object; subclasses name their `RESOURCE` and the fields they read."""

    RESOURCE: ClassVar[Resource]

    metadata: ObjectMeta

    @property
    def key(self) -> Key:
        """Namespace and name."""
        return Key(self.metadata.namespace, self.metadata.name)

    @property
    def deleting(self) -> bool:
        """Deletion was asked for; finalizers still hold the object."""
        return self.metadata.deletion_timestamp is not None

    def manifest(self) -> dict[str, Any]:
        """The fields that were set, headed by apiVersion and kind."""
        head = {"apiVersion": self.RESOURCE.api_version, "kind": self.RESOURCE.kind}
        return head | super().manifest()


@cache
def metadata_only(resource: Resource) -> type[KubeObject]:
    """A view of an object's metadata and nothing else, which every object of the kind fits.

    For questions that must not miss an object because a fuller view cannot read it, such as
    whether any is left: `await client.list(metadata_only(Pod.RESOURCE), label_selector=…)`.
    """

    class Metadata(KubeObject):
        RESOURCE: ClassVar[Resource] = resource

    return Metadata


class Condition(ApiModel):
    """One aspect of an object's state, as `metav1.Condition`."""

    type: Annotated[str, Field(min_length=1, max_length=316)]
    """Aspect this condition reports, such as Ready."""
    status: Literal["True", "False", "Unknown"]
    """Whether the aspect holds."""
    reason: Annotated[str, Field(max_length=1024)] = ""
    """Machine-readable cause of the last change, in CamelCase."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Sentence for a person: what happened and what to do."""
    observed_generation: Annotated[int, Field(ge=0)] | None = None
    """Generation of the spec this was decided on."""
    last_transition_time: Time | None = None
    """When the status last changed."""
