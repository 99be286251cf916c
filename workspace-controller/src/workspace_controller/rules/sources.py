"""Where training data comes from and where the result goes: `tuning.input` and `tuning.output`.

Invariant: an admitted source or destination is one thing, spelled so that a pod can use it.
"""

from collections.abc import Iterator
from typing import Final

from gpuapis.workspace import DataDestination, DataSource
from workspace_controller.rules.finding import Finding, Rule, exactly_one
from workspace_controller.rules.images import image_findings, target_findings
from workspace_controller.rules.objects import name_findings
from workspace_controller.rules.urls import url_findings, url_warnings
from workspace_controller.rules.volumes import source_volume_findings, target_volume_findings

ONE_SOURCE = Rule(
    "input-one", "tuning.input is exactly one of urls, volumeSource and image.", server=True
)
ONE_TARGET = Rule(
    "output-one", "tuning.output is exactly one of image and volumeSource.", server=True
)
PUSH_SECRET = Rule(
    "output-secret", "tuning.output.image comes with an imagePushSecret.", server=True
)
REPEATED = Rule("url-repeated", "No URL is given twice.", warns=True)
UNUSED_SECRET = Rule("secret-unused", "A pull or push secret goes with an image.", warns=True)

INPUT: Final = "tuning.input"
OUTPUT: Final = "tuning.output"


def source_findings(source: DataSource, *, private: bool) -> Iterator[Finding]:
    """What is wrong with the training data's source; `private` allows private addresses."""
    given = {
        "urls": bool(source.urls),
        "volumeSource": source.volume_source is not None,
        "image": source.image is not None,
    }
    chosen, problem = exactly_one(given)
    if problem:
        yield ONE_SOURCE.broken(INPUT, problem, chosen)
    for number, url in enumerate(source.urls):
        yield from url_findings(f"{INPUT}.urls[{number}]", url, private=private)
    if source.volume_source is not None:
        yield from source_volume_findings(f"{INPUT}.volumeSource", source.volume_source)
    if source.image is not None:
        yield from image_findings(f"{INPUT}.image", source.image)
    for number, name in enumerate(source.image_pull_secrets):
        yield from name_findings(f"{INPUT}.imagePullSecrets[{number}]", name)


def destination_findings(destination: DataDestination) -> Iterator[Finding]:
    """What is wrong with the result's destination."""
    image, volume = destination.image, destination.volume_source
    if (image is None) == (volume is None):
        given = "neither is" if image is None else "both are"
        yield ONE_TARGET.broken(
            OUTPUT, f"takes exactly one of image and volumeSource; {given} given", given
        )
    if image is not None:
        yield from target_findings(f"{OUTPUT}.image", image)
    if image is not None and destination.image_push_secret is None:
        yield PUSH_SECRET.broken(
            f"{OUTPUT}.imagePushSecret",
            "is missing: pushing an image takes a Secret of type kubernetes.io/dockerconfigjson in "
            "the Workspace's namespace",
        )
    if volume is not None:
        yield from target_volume_findings(f"{OUTPUT}.volumeSource", volume)
    if destination.image_push_secret is not None:
        yield from name_findings(f"{OUTPUT}.imagePushSecret", destination.image_push_secret)


def data_warnings(source: DataSource, destination: DataDestination) -> Iterator[Finding]:
    """What is allowed, but likely a slip."""
    for number, url in enumerate(source.urls):
        yield from url_warnings(f"{INPUT}.urls[{number}]", url)
        if url in source.urls[:number]:
            yield REPEATED.broken(f"{INPUT}.urls[{number}]", "is there twice, and counts twice")
    if source.image_pull_secrets and source.image is None:
        yield UNUSED_SECRET.broken(f"{INPUT}.imagePullSecrets", "has no effect without image")
    if destination.image_push_secret is not None and destination.image is None:
        yield UNUSED_SECRET.broken(f"{OUTPUT}.imagePushSecret", "has no effect without image")
