"""The model a Workspace names: `inference.preset` and `tuning.preset`.

Invariant: a preset that is admitted is in the catalogue, and comes with what it cannot do without.
"""

from collections.abc import Iterator

from gpuapis.workspace import PresetSpec
from workspace_controller.presets.catalog import Catalog
from workspace_controller.rules.finding import Finding, Rule
from workspace_controller.rules.images import image_findings
from workspace_controller.rules.objects import name_findings
from workspace_controller.workspaces.target import (
    PRIVATE_NEEDS_IMAGE,
    access_problem,
    unknown_preset,
)

KNOWN = Rule("preset-known", "The preset is in the catalogue, by name, alias or hub id.")
PRIVATE_IMAGE = Rule(
    "preset-image",
    "A preset with accessMode private names the image with the weights in presetOptions.image.",
    server=True,
)
ACCESS = Rule(
    "preset-access",
    "A gated preset comes with a modelAccessSecret, one that may not be downloaded with an image.",
)
PUBLIC_IMAGE = Rule(
    "preset-image-public", "presetOptions.image is for accessMode private.", warns=True
)


def preset_findings(field: str, spec: PresetSpec, catalog: Catalog) -> Iterator[Finding]:
    """What is wrong with naming this model.

    Args:
        field: `inference.preset` or `tuning.preset`.
        spec: the preset as it is named.
        catalog: the presets there are.
    """
    known = catalog.find(spec.name)
    if known is None:
        said = unknown_preset(spec.name, catalog, field)
        yield KNOWN.broken(f"{field}.name", said.partition(" ")[2], spec.name)
    options = spec.preset_options
    if spec.access_mode == "private" and not options.image:
        name, _, said = PRIVATE_NEEDS_IMAGE.partition(" ")
        yield PRIVATE_IMAGE.broken(f"{field}.{name}", said)
    elif known is not None and (closed := access_problem(spec, known, field)) is not None:
        where, _, said = closed.message.partition(" ")
        yield ACCESS.broken(where, said, spec.name)
    if options.image:
        yield from image_findings(f"{field}.presetOptions.image", options.image)
    for number, name in enumerate(options.image_pull_secrets):
        yield from name_findings(f"{field}.presetOptions.imagePullSecrets[{number}]", name)
    if options.model_access_secret is not None:
        yield from name_findings(
            f"{field}.presetOptions.modelAccessSecret", options.model_access_secret
        )


def preset_warnings(field: str, spec: PresetSpec) -> Iterator[Finding]:
    """What is allowed, but likely a slip."""
    if spec.access_mode == "public" and spec.preset_options.image:
        yield PUBLIC_IMAGE.broken(
            f"{field}.presetOptions.image",
            "is used although accessMode is public: say private if the weights are in it",
        )
