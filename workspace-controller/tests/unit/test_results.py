"""What a tuning Workspace offers to one that serves."""

from typing import Any

import pytest
from workspace_world.tuning import DIGEST, OUTPUT, tuning

from gpuapis.workspace import Workspace
from workspace_controller.presets.catalog import catalog
from workspace_controller.tuning.results import TunedImage, tuned_image
from workspace_controller.workspaces.facts import Problem

SERVED = "phi-3-mini-128k-instruct"
DONE = {"run": "r", "result": "Succeeded", "image": OUTPUT, "digest": DIGEST}


def workspace(run: dict[str, Any] | None, seen: int = 1, **changes: Any) -> Workspace:
    status = {"observedGeneration": seen, "tuning": run} if run is not None else {}
    return Workspace.model_validate(
        {
            "metadata": {"name": "tune", "namespace": "team", "generation": 1},
            "resource": {"labelSelector": {"matchLabels": {"apps": "x"}}},
            "tuning": tuning(**changes),
            "status": status,
        }
    )


def asked(found: Workspace | None) -> TunedImage | Problem:
    return tuned_image("tune", found, SERVED, catalog())


def test_an_image_is_named_by_its_digest_and_pulled_with_the_secret_that_pushed_it() -> None:
    repository = OUTPUT.removesuffix(":1")
    assert asked(workspace(DONE)) == TunedImage(f"{repository}@{DIGEST}", ("push",))


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ("registry.example.com:5000/a", "registry.example.com:5000/a"),
        ("registry.example.com:5000/a:1", "registry.example.com:5000/a"),
        ("a:1", "a"),
    ],
)
def test_a_tag_goes_and_a_port_stays(image: str, reference: str) -> None:
    assert asked(workspace(DONE | {"image": image})) == TunedImage(
        f"{reference}@{DIGEST}", ("push",)
    )


def test_where_no_digest_was_kept_the_reference_must_do() -> None:
    bare = {"run": "r", "result": "Succeeded"}
    assert asked(workspace(bare)) == TunedImage(OUTPUT, ("push",))


@pytest.mark.parametrize(
    "found",
    [
        workspace(None),
        workspace({"run": "r"}),
        workspace(DONE, seen=0),
    ],
    ids=["not-begun", "under-way", "edited-since"],
)
def test_time_alone_may_help(found: Workspace) -> None:
    problem = asked(found)
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.passing) == ("AdapterNotReady", True)
    assert "waits until Workspace tune has succeeded" in problem.message


def test_a_result_is_not_taken_while_another_wish_waits_to_be_run() -> None:
    found = workspace(DONE)
    status = found.status.model_copy(update={"state": "Pending"})
    problem = asked(found.model_copy(update={"status": status}))
    assert isinstance(problem, Problem)
    assert problem.passing


SERVES = Workspace.model_validate(
    {
        "metadata": {"name": "tune", "namespace": "team"},
        "resource": {"labelSelector": {"matchLabels": {"apps": "x"}}},
        "inference": {"preset": {"name": SERVED}},
    }
)
ON_A_VOLUME = {"volumeSource": {"persistentVolumeClaim": {"claimName": "a"}}}


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "Workspace tune does not exist"),
        (SERVES, "serves a model and tunes none"),
        (
            workspace(DONE, preset={"name": "falcon-7b"}),
            "tunes falcon-7b, which makes no adapter for phi-3-mini-128k-instruct",
        ),
        (
            workspace({"run": "r", "result": "Failed", "message": "the GPUs ran out of memory"}),
            "has failed: the GPUs ran out of memory",
        ),
        (
            workspace({"run": "r", "result": "Succeeded"}, output=ON_A_VOLUME),
            "adapters[].source.volumeSource",
        ),
    ],
    ids=["absent", "serves", "another-model", "failed", "on-a-volume"],
)
def test_a_person_has_to_help(found: Workspace | None, words: str) -> None:
    problem = asked(found)
    assert isinstance(problem, Problem)
    assert (problem.reason, problem.passing) == ("AdapterNotReady", False)
    assert words in problem.message
