"""Fine-tuned adapters beside a preset: `inference.adapters`.

Invariant: what is admitted can be mounted under its name and loaded at its strength; the same
rules hold when a Workspace is made and when it is changed.
"""

import re
from collections.abc import Iterator
from typing import Final

from gpuapis.workspace import AdapterSource, AdapterSpec, Workspace
from gpuapis.workspace_rules import ADAPTER_NAME, MOST_ADAPTERS
from gpuapis.workspace_rules import STRENGTH as STRENGTH_FORM
from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule, exactly_one
from workspace_controller.rules.images import image_findings
from workspace_controller.rules.objects import name_findings
from workspace_controller.rules.volumes import source_volume_findings

COUNT = Rule("adapters-count", f"At most {MOST_ADAPTERS} adapters are loaded.", server=True)
FOR_PRESETS = Rule("adapters-preset", "Adapters are for presets, not for a template.")
SOURCE = Rule("adapter-source", "An adapter has a source.", server=True)
NAME = Rule(
    "adapter-name",
    "An adapter has a name of 1 to 55 characters of a-z, 0-9 and -, beginning and ending with a "
    "letter or digit.",
    server=True,
)
UNIQUE = Rule("adapter-unique", "No two adapters share a name.", server=True)
NO_URLS = Rule("adapter-urls", "An adapter does not come from urls.", server=True)
ONE = Rule(
    "adapter-one", "An adapter is exactly one of image, volumeSource and workspace.", server=True
)
STRENGTH = Rule("adapter-strength", "Strength is a decimal number from 0 to 1.", server=True)
ITSELF = Rule("adapter-itself", "An adapter does not come from the Workspace that loads it.")
UNUSED_SECRET = Rule(
    "adapter-secret-unused", "imagePullSecrets of an adapter go with an image.", warns=True
)

FIELD: Final = "inference.adapters"


def adapters_findings(workspace: Workspace) -> Iterator[Finding]:
    """What is wrong with the adapters."""
    assert workspace.inference is not None
    adapters = workspace.inference.adapters
    if len(adapters) > MOST_ADAPTERS:
        yield COUNT.broken(
            FIELD,
            f"has {len(adapters)} entries; at most {MOST_ADAPTERS} are allowed",
            len(adapters),
        )
    if adapters and workspace.inference.preset is None and workspace.inference.template is not None:
        yield FOR_PRESETS.broken(
            FIELD,
            "is for presets: the server of inference.template has to load adapters itself, from a "
            "volume of the template",
        )
    names: set[str] = set()
    for number, spec in enumerate(adapters):
        field = f"{FIELD}[{number}]"
        yield from _strength_findings(field, spec)
        if spec.source is None:
            yield SOURCE.broken(
                f"{field}.source",
                "is missing: give a name and one of image, volumeSource and workspace",
            )
            continue
        yield from _source_findings(f"{field}.source", spec.source, workspace.metadata.name)
        name = spec.source.name or ""
        if name in names:
            yield UNIQUE.broken(
                f"{field}.source.name",
                f"{shown(name)} is given twice: each adapter needs a name of its own",
                name,
            )
        names.add(name)


def _strength_findings(field: str, spec: AdapterSpec) -> Iterator[Finding]:
    text = spec.strength
    if text is not None and re.fullmatch(STRENGTH_FORM, text) is None:
        yield STRENGTH.broken(
            f"{field}.strength",
            f"{shown(text)} is not a decimal number from 0 to 1, such as 0.5",
            text,
        )


def _source_findings(field: str, source: AdapterSource, itself: str) -> Iterator[Finding]:
    name = source.name or ""
    if re.fullmatch(ADAPTER_NAME, name) is None:
        found = f"{shown(name)} cannot name an adapter" if name else "is missing"
        yield NAME.broken(
            f"{field}.name",
            f"{found}: use 1 to 55 characters of a-z, 0-9 and -, beginning and ending with a letter "
            "or digit",
            name,
        )
    if source.urls:
        yield NO_URLS.broken(
            f"{field}.urls", "is for training data: give an image, a volumeSource or a workspace"
        )
    given = {
        "image": source.image is not None,
        "volumeSource": source.volume_source is not None,
        "workspace": source.workspace is not None,
    }
    chosen, problem = exactly_one(given)
    if problem:
        yield ONE.broken(field, problem, f"{name} {chosen}")
    if source.image is not None:
        yield from image_findings(f"{field}.image", source.image)
    if source.volume_source is not None:
        yield from source_volume_findings(f"{field}.volumeSource", source.volume_source)
    if source.workspace is not None:
        yield from name_findings(f"{field}.workspace", source.workspace)
    if source.workspace == itself:
        yield ITSELF.broken(
            f"{field}.workspace", f"{shown(itself)} is this Workspace: name the one that tuned it"
        )
    for number, secret in enumerate(source.image_pull_secrets):
        yield from name_findings(f"{field}.imagePullSecrets[{number}]", secret)


def adapters_problem(workspace: Workspace) -> str | None:
    """The first of these problems, as a sentence; None when there is none."""
    return next((str(each) for each in adapters_findings(workspace)), None)


def adapters_warnings(workspace: Workspace) -> Iterator[Finding]:
    """What is allowed, but likely a slip."""
    if workspace.inference is None:
        return
    for number, spec in enumerate(workspace.inference.adapters):
        source = spec.source
        if source is not None and source.image_pull_secrets and source.image is None:
            yield UNUSED_SECRET.broken(
                f"{FIELD}[{number}].source.imagePullSecrets", "has no effect without image"
            )
