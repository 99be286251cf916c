"""The verdicts that follow from the rules: on creation, on updates, and on what is no object."""

from typing import Any

import pytest
from admission_cases import TODAY, UPDATES, config, knowledge, manifest, tuning, workspace

from controlkit.admission import AdmissionRequest
from controlkit.kube.objects import Key
from gpuapis import labels
from workspace_controller.presets.catalog import Catalog
from workspace_controller.rules.configs import ConfigRead
from workspace_controller.skus.table import sku_table
from workspace_controller.webhooks.review import Judge, review
from workspace_controller.workspaces.target import Knowledge

KNOWLEDGE = knowledge()


@pytest.mark.parametrize("case", UPDATES)
def test_updates(case: str) -> None:
    before, after, words = UPDATES[case]
    verdict = review(workspace(**before), workspace(**after), KNOWLEDGE, TODAY)
    assert verdict.allowed == (not words), verdict.message
    assert words in verdict.message


def test_what_was_wrong_before_does_not_lock_an_object() -> None:
    """A preset leaves the catalogue: the Workspaces that use it can still be scaled."""
    empty = Knowledge(Catalog(()), sku_table("azure"))
    verdict = review(workspace(), workspace(resource={"count": 2}), empty, TODAY)
    assert verdict.allowed, verdict.message


def test_metadata_changes_pass_whatever_they_are() -> None:
    assert review(workspace(), workspace(notes={labels.RUNTIME: "x"}), KNOWLEDGE, TODAY).allowed


def test_what_is_being_deleted_passes() -> None:
    gone = workspace(size="A100").model_copy(
        update={
            "metadata": workspace().metadata.model_copy(
                update={"deletion_timestamp": "2026-01-01T00:00:00Z"}
            )
        }
    )
    assert review(workspace(), gone, KNOWLEDGE, TODAY).allowed


def request(**facts: Any) -> AdmissionRequest:
    kind = {"group": "kaito.sh", "version": "v1alpha1", "kind": "Workspace"}
    return AdmissionRequest.model_validate(
        {"uid": "1", "kind": kind, "operation": "CREATE", "namespace": "n", **facts}
    )


async def judge(asked: AdmissionRequest, there: ConfigRead | None = None) -> tuple[bool, str]:
    async def read(key: Key) -> ConfigRead:
        assert key.namespace == "n"
        return there or ConfigRead(key.name)

    verdict = await Judge(KNOWLEDGE, lambda: TODAY, read)(asked)
    return verdict.allowed, verdict.message


BAD = manifest(size="A100")
LEAVING = BAD | {"metadata": BAD["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        (request(object=manifest()), True),
        (request(object=BAD), False),
        (request(object=BAD, subResource="status"), True),
        (request(object=BAD, oldObject=BAD, operation="UPDATE"), True),
        (request(object=BAD, oldObject=manifest(), operation="UPDATE"), False),
        (request(object=LEAVING, oldObject=manifest(), operation="UPDATE"), True),
        (request(oldObject=BAD, operation="DELETE"), True),
    ],
)
async def test_requests_are_judged(asked: AdmissionRequest, allowed: bool) -> None:
    assert (await judge(asked))[0] == allowed


async def test_an_object_that_cannot_be_read_is_refused_with_the_field() -> None:
    allowed, message = await judge(request(object=manifest(resource={"count": "many"})))
    assert not allowed
    assert message == "resource.count is 'many'; it must be a whole number"


async def test_the_configuration_that_a_new_object_names_is_read() -> None:
    asked = request(object=manifest(**tuning(config="settings")))
    allowed, message = await judge(asked)
    assert not allowed
    assert "tuning.config 'settings' names a ConfigMap that is not in" in message
    sound = config("training_config: {QuantizationConfig: {load_in_4bit: true}}")
    assert await judge(asked, sound) == (True, "")


async def test_a_configuration_named_before_is_not_held_against_an_update() -> None:
    before = manifest(**tuning(config="gone"))
    after = manifest(**tuning(config="gone", input={"urls": ["https://example.com/b"]}))
    asked = request(object=after, oldObject=before, operation="UPDATE")
    assert await judge(asked) == (True, "")
    other = manifest(**tuning(config="other"))
    allowed, message = await judge(request(object=other, oldObject=before, operation="UPDATE"))
    assert (allowed, "'other' names a ConfigMap" in message) == (False, True)


async def test_metadata_of_an_object_that_cannot_be_read_may_change() -> None:
    unreadable = manifest(resource={"count": "many"})
    marked = unreadable | {"metadata": {"name": "w", "finalizers": []}}
    asked = request(object=marked, oldObject=unreadable, operation="UPDATE")
    assert await judge(asked) == (True, "")


async def test_an_object_that_could_not_be_read_before_can_be_mended() -> None:
    unreadable = manifest(resource={"count": "many"})
    asked = request(object=manifest(), oldObject=unreadable, operation="UPDATE")
    assert await judge(asked) == (True, "")
