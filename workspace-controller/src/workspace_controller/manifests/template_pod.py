"""The pod of a user's own template, placed on the Workspace's nodes.

Invariant: what the user wrote stays, and is only added to: a label, tolerations, and terms that
bind the pod to the Workspace's nodes.
"""

import copy
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, Field, ValidationError

from gpuapis import labels
from gpuapis.workspace import Workspace
from workspace_controller.manifests.ownership import TOLERATIONS, node_terms
from workspace_controller.reading import complaints, path

FIELD: Final = ("inference", "template")

MODEL_PORT: Final = 5000


class _Port(BaseModel):
    name: str = ""
    containerPort: Annotated[int, Field(ge=1, le=65535)]  # noqa: N815  (the API's spelling)


class _Mount(BaseModel):
    name: str


class _Container(BaseModel):
    name: Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
    image: Annotated[str, Field(min_length=1)]
    ports: tuple[_Port, ...] = ()
    volumeMounts: tuple[_Mount, ...] = ()  # noqa: N815  (the API's spelling)


class _Volume(BaseModel):
    name: str


class _Metadata(BaseModel):
    labels: dict[str, str] = {}


class _NodeTerm(BaseModel):
    matchExpressions: tuple[dict[str, Any], ...] = ()  # noqa: N815  (the API's spelling)


class _Required(BaseModel):
    nodeSelectorTerms: tuple[_NodeTerm, ...] = ()  # noqa: N815  (the API's spelling)


class _NodeAffinity(BaseModel):
    requiredDuringSchedulingIgnoredDuringExecution: _Required = _Required()  # noqa: N815


class _Affinity(BaseModel):
    nodeAffinity: _NodeAffinity = _NodeAffinity()  # noqa: N815  (the API's spelling)


class _Spec(BaseModel):
    containers: Annotated[tuple[_Container, ...], Field(min_length=1)]
    initContainers: tuple[_Container, ...] = ()  # noqa: N815  (the API's spelling)
    volumes: tuple[_Volume, ...] = ()
    restartPolicy: Literal["Always"] = "Always"  # noqa: N815  (all that a Deployment takes)
    activeDeadlineSeconds: None = None  # noqa: N815  (not for a Deployment's pods)
    tolerations: tuple[dict[str, Any], ...] = ()
    affinity: _Affinity = _Affinity()


class _Template(BaseModel):
    """As much of a pod template as we read, add to, or know to be refused in a Deployment.

    A template that the API server refuses after all has cost a node by then.
    """

    metadata: _Metadata = _Metadata()
    spec: _Spec


def template_problems(template: dict[str, Any]) -> list[tuple[str, str]]:
    """All that keeps the template from being a pod template, as the field and what is wrong."""
    try:
        spec = _Template.model_validate(template).spec
    except ValidationError as error:
        return complaints(error, *FIELD)
    return list(_inconsistencies(spec))


def template_problem(template: dict[str, Any]) -> str | None:
    """The first of these problems, as a sentence; None when there is none."""
    return next((f"{field} {said}" for field, said in template_problems(template)), None)


def _inconsistencies(spec: _Spec) -> Iterator[tuple[str, str]]:
    """What no field shows by itself."""
    containers = (*spec.initContainers, *spec.containers)
    names = [container.name for container in containers]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield path(*FIELD, "spec", "containers"), f"give the name {name!r} twice"
    volumes = {volume.name for volume in spec.volumes}
    for container in containers:
        for mount in container.volumeMounts:
            if mount.name not in volumes:
                yield (
                    path(*FIELD, "spec", "volumes"),
                    f"do not name {mount.name!r}, which container {container.name} mounts",
                )


def http_port(template: dict[str, Any]) -> int | None:
    """The container port that answers HTTP; None where the template declares no port at all.

    The one named `http`; else 5000, where the model servers of this project listen; else the first.
    """
    containers = _Template.model_validate(template).spec.containers
    ports = [port for container in containers for port in container.ports]
    named = [port for port in ports if port.name == "http"]
    usual = [port for port in ports if port.containerPort == MODEL_PORT]
    return next((port.containerPort for port in named + usual + ports), None)


def tolerations(template: dict[str, Any]) -> list[dict[str, Any]]:
    """What the user's pod tolerates, and what we add to that."""
    theirs: list[dict[str, Any]] = list(template["spec"].get("tolerations", []))
    return theirs + [dict(mine) for mine in TOLERATIONS if mine not in theirs]


def template_pod(workspace: Workspace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The metadata and the spec of the pod template, which has no `template_problem`."""
    assert workspace.inference is not None
    assert workspace.inference.template is not None
    template = copy.deepcopy(workspace.inference.template)
    metadata: dict[str, Any] = template.get("metadata", {})
    spec: dict[str, Any] = template["spec"]
    metadata["labels"] = {
        **metadata.get("labels", {}),
        labels.WORKSPACE: workspace.metadata.name,
    }
    spec["tolerations"] = tolerations(template)
    _bind(spec, node_terms(workspace))
    return metadata, spec


def _bind(spec: dict[str, Any], mine: list[dict[str, Any]]) -> None:
    """Narrows the pod to our terms; where the user has terms, both must hold."""
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    required = affinity.setdefault("requiredDuringSchedulingIgnoredDuringExecution", {})
    theirs: list[dict[str, Any]] = required.get("nodeSelectorTerms") or [{}]
    required["nodeSelectorTerms"] = [
        {
            **their,
            "matchExpressions": [*their.get("matchExpressions", []), *my["matchExpressions"]],
        }
        for their in theirs
        for my in mine
    ]
