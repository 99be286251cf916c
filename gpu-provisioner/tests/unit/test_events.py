"""What a person is told by Events."""

from provisioner_world.builders import NOW, claim, pod

from gpu_provisioner.claims.claim import Condition
from gpu_provisioner.claims.events import (
    claim_deleted,
    drain_blocked,
    failure_event,
    image_family_unknown,
)
from gpu_provisioner.claims.progress import DONE, Progress, Step

QUOTA = Step("refused", "QuotaExceeded", "Used up.", NOW)
TOLD = Condition("Launched", "False", "QuotaExceeded", "Used up. Next try …", NOW)


def test_a_failure_is_told_once() -> None:
    event = failure_event(claim(), Progress(QUOTA))
    assert event is not None
    assert event == ("Warning", "QuotaExceeded", "Used up.")
    assert failure_event(claim(told=(TOLD,)), Progress(QUOTA)) is None


def test_what_comes_right_by_itself_is_not_told() -> None:
    assert failure_event(claim(), Progress(Step("waiting", "PoolCreating", "…"))) is None
    assert failure_event(claim(), Progress(DONE, DONE, DONE)) is None
    assert failure_event(claim(), Progress(None, None, None)) is None


def test_a_second_node_is_told() -> None:
    several = Progress(DONE, Step("failed", "MultipleNodesFound", "two"))
    event = failure_event(claim(), several)
    assert event is not None
    assert event.reason == "MultipleNodesFound"


def test_texts_say_what_happens_and_to_what() -> None:
    assert claim_deleted("NodeDeleted", "Node n was deleted.").message == (
        "Node n was deleted. The claim is deleted, and its agent pool with it."
    )
    assert drain_blocked(pod("model-0"), "budget").message == (
        "Pod models/model-0 may not leave yet: budget"
    )
    family = claim(annotations={"kaito.sh/node-image-family": "Mariner"})
    assert "'mariner' is not known" in image_family_unknown(family).message
