"""What a person gets to read of a provisioner's text."""

import pytest

from workspace_controller.claims.wording import GIST_LIMIT, WORDS_LIMIT, brief, told

SIZES = ",".join(f"standard_d{number}s_v3" for number in range(1, 60))
SIZE = (
    "all requested instance types were unavailable during launch: Standard_NC12s_v3 is not offered "
    "to this subscription in eastus. Choose another instanceType or region. Azure: BadRequest: The "
    "VM size of Standard_NC12s_v3 is not allowed in your subscription in location 'eastus'. The "
    f"available VM sizes are '{SIZES}' For more details, please visit https://aka.ms/aks/quotas"
)
QUOTA = (
    "The subscription's vCPU quota standardNCSv3Family in eastus is used up: 6 left, 24 needed. "
    "Raise the quota (https://aka.ms/quotas), free some of it, or choose another instanceType. "
    "Azure: ErrCode_InsufficientVCPUQuota: Insufficient vcpu quota. Next try after 11:30:44 UTC."
)


def test_a_kilobyte_of_sizes_becomes_a_few_words() -> None:
    parts = told(SIZE)
    assert parts.headline == "Standard_NC12s_v3 is not offered to this subscription in eastus."
    assert parts.gist.endswith("Choose another instanceType or region.")
    assert "standard_d1s_v3, standard_d2s_v3, standard_d3s_v3 and 56 more'" in parts.words
    assert len(parts.words) <= WORDS_LIMIT + 2
    assert parts.next_try == ""


def test_figures_the_remedy_and_the_next_try_are_kept_whole() -> None:
    parts = told(QUOTA)
    assert parts.headline.endswith("is used up: 6 left, 24 needed.")
    assert "Raise the quota (https://aka.ms/quotas)" in parts.gist
    assert parts.words == "ErrCode_InsufficientVCPUQuota: Insufficient vcpu quota."
    assert parts.next_try == "Next try after 11:30:44 UTC."


def test_a_text_of_another_provisioner_is_split_where_a_sentence_ends() -> None:
    first = "No instance type met the requirements and there is no capacity in any zone at all."
    parts = told(f"{first} " + "All offers were tried. " * 40)
    assert parts.headline == first
    assert len(parts.gist) <= GIST_LIMIT
    assert parts.words.endswith(" …")


@pytest.mark.parametrize("text", ["", "m", "no full stop", "x" * 5000])
def test_any_text_is_short_and_says_something(text: str) -> None:
    parts = told(text)
    assert len(parts.gist) <= GIST_LIMIT + 2
    assert bool(parts.headline) == bool(text)


def test_a_brief_says_where_the_rest_is() -> None:
    assert brief("short", 20, "MachineReady") == "short"
    text = "It is so. " + "And this is why. " * 30
    assert brief(text, 50, "MachineReady").startswith("It is so. And this is why.")
    assert brief(text, 50, "MachineReady").endswith("More in MachineReady.")
