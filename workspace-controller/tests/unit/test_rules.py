"""Every rule of admission, kept and broken."""

import time
from dataclasses import replace
from datetime import date

import pytest
from admission_cases import (
    BROKEN,
    SOUND,
    TODAY,
    WARNED,
    WARNED_OF_OWN_NODES,
    knowledge,
    manifest,
    tuning,
    workspace,
)
from admission_cases.builders import LLAMA

from workspace_controller.rules import training_config
from workspace_controller.rules.check import findings, warnings
from workspace_controller.rules.finding import Finding
from workspace_controller.rules.images import Reference, reference
from workspace_controller.rules.later_fields import NOTE, later_warnings
from workspace_controller.rules.objects import name_findings
from workspace_controller.rules.training_config import results_folder
from workspace_controller.rules.urls import url_findings
from workspace_controller.webhooks.review import review


@pytest.mark.parametrize("case", BROKEN)
def test_what_breaks_a_rule_is_refused_for_that_rule_alone(case: str) -> None:
    broken = BROKEN[case]
    found = findings(workspace(**broken.facts), knowledge(**broken.knows), TODAY, broken.config)
    assert {each.rule for each in found} == {broken.rule}, found
    assert broken.words in "; ".join(map(str, found))


@pytest.mark.parametrize("case", SOUND)
def test_what_is_sound_is_admitted_without_a_word(case: str) -> None:
    verdict = review(None, workspace(**SOUND[case]), knowledge(), TODAY)
    assert (verdict.allowed, verdict.message, verdict.warnings) == (True, "", ())


@pytest.mark.parametrize("case", WARNED)
def test_what_may_disappoint_is_admitted_with_a_warning(case: str) -> None:
    rule, facts, words = WARNED[case]
    asked = workspace(**facts)
    assert findings(asked, knowledge(), TODAY) == []
    found = [*warnings(asked, knowledge(), TODAY), *later_warnings(asked)]
    assert [each.rule for each in found] == [rule]
    assert words in str(found[0])


def test_a_model_that_no_one_gpu_holds_wants_the_size_of_your_own_nodes() -> None:
    brought = knowledge(byo=True)
    asked = workspace(**WARNED_OF_OWN_NODES)
    (told,) = warnings(asked, brought, TODAY)
    assert told.rule == "size-own"
    assert "each pod gets 1 GPU, and llama-3.3-70b-instruct takes 131.4 GiB" in str(told)
    for quiet in (workspace(size=None), workspace(inference=LLAMA)):
        assert not [each for each in warnings(quiet, brought, TODAY) if each.rule == "size-own"]


def test_a_size_to_be_retired_is_announced() -> None:
    verdict = review(None, workspace(size="Standard_NC6s_v3"), knowledge(), date(2025, 1, 1))
    assert "will be retired on 2025-09-30" in "; ".join(verdict.warnings)


def test_all_problems_are_told_at_once() -> None:
    bad = tuning(method="x", output={}) | {
        "name": "A",
        "size": "B",
        "notes": {"kaito.sh/runtime": "z"},
    }
    message = review(None, workspace(**bad), knowledge(), TODAY).message
    for field in (
        *("metadata.name", "metadata.annotations[kaito.sh/runtime]"),
        *("tuning.method", "tuning.output", "resource.instanceType"),
    ):
        assert field in message


def test_a_size_without_gpus_is_one_denial_and_no_warning() -> None:
    verdict = review(None, workspace(size="Standard_D4s_v3"), knowledge(), TODAY)
    assert verdict.message.count("resource.instanceType") == 1
    assert verdict.warnings == ()


def test_a_refused_field_is_not_warned_of_as_well() -> None:
    old_and_small = "Standard_NV12s_v3"
    verdict = review(None, workspace(size=old_and_small), knowledge(), TODAY)
    assert "does not fit" in verdict.message
    assert verdict.warnings == ()


def test_private_addresses_are_allowed_where_the_chart_says_so() -> None:
    asked = workspace(**tuning(input={"urls": ["http://10.0.0.1/a", "http://localhost/b"]}))
    assert findings(asked, knowledge(private_urls=True), TODAY) == []


def test_nodes_that_are_brought_may_have_any_label_and_any_size() -> None:
    asked = workspace(selector={"matchLabels": {"agentpool": "gpu"}}, size=None)
    assert findings(asked, knowledge(byo=True), TODAY) == []
    assert findings(workspace(size="my-server"), knowledge(byo=True), TODAY) == []


@pytest.mark.parametrize("note", ["", "[", "[]", "5", "{" * 5000, '{"resource": 5}'])
def test_a_note_that_is_none_is_passed_over(note: str) -> None:
    assert later_warnings(workspace(notes={NOTE: note})) == []


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("busybox", Reference("busybox", None, None)),
        ("library/busybox:1.2", Reference("library/busybox", "1.2", None)),
        ("localhost:5000/a", Reference("localhost:5000/a", None, None)),
        ("[::1]:5000/a:b", Reference("[::1]:5000/a", "b", None)),
        (
            f"example.com/a__b/c-d.e:V1@sha256:{'a' * 64}",
            Reference("example.com/a__b/c-d.e", "V1", f"sha256:{'a' * 64}"),
        ),
        ("Example.com/a", Reference("Example.com/a", None, None)),
        ("a/B", None),
        ("a//b", None),
        ("a:", None),
        ("a@sha256:12", None),
        (f"{'a' * 256}", None),
        ("a_-b", None),
        ("-a", None),
    ],
)
def test_image_references_are_read_as_engines_read_them(text: str, read: Reference | None) -> None:
    assert reference(text) == read


@pytest.mark.parametrize(
    ("line", "folder"),
    [
        ("{}", "/mnt/output"),
        ("{output_dir: mine/./x}", "/mnt/mine/x"),
        ("{output_dir: /mnt/a/../b}", "/mnt/b"),
        ("{output_dir: /elsewhere}", "/mnt/elsewhere"),
    ],
)
def test_the_folder_of_results_lies_below_the_mount(line: str, folder: str) -> None:
    text = f"training_config:\n  TrainingArguments: {line}"
    assert results_folder({"training_config.yaml": text}) == folder


def test_a_breach_is_the_same_wherever_in_a_list_it_stands() -> None:
    here = Finding("r", "a[0].b[3].c", "said", "part")
    assert here.breach == replace(here, field="a[7].b[1].c", said="other").breach
    assert here.breach != replace(here, part="other").breach


def test_no_text_of_a_few_lines_can_hold_the_webhook_up() -> None:
    """Aliases that double at every line, and names that invite a pattern to try all ways."""
    lines = ["training_config:", "  a0: &a0 [x, x]"]
    lines += [f"  a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
    lines.append("  LoraConfig: *a59")
    before = time.process_time()
    found = list(training_config.problems({"training_config.yaml": "\n".join(lines)}, "lora"))
    assert "training_config.LoraConfig is [[" in found[-1]
    for hostile in ("a" * 511 + "!", "a." * 255 + "!", "a-" * 255, "a:" * 255, "-" * 511):
        assert reference(hostile) is None
        assert list(name_findings("x", hostile))
        assert list(url_findings("x", f"http://{hostile}@", private=False))
    assert time.process_time() - before < 1.0


def test_a_long_value_is_cut() -> None:
    message = review(None, workspace(size="x" * 64, name="y" * 200), knowledge(), TODAY).message
    assert "y" * 100 not in message
    assert manifest()["metadata"]["name"] == "w"
