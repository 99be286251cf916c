import pytest

from runtimes.engines.contract import Refused, Sampling
from runtimes.engines.lengths import Budget, Limits, budget

LIMITS = Limits(max_model_len=512, max_new_tokens=256)


@pytest.mark.parametrize(
    ("sampling", "prompt", "prefix", "trim", "expected"),
    [
        pytest.param(Sampling(), 11, 0, False, Budget(11, 189, 0), id="default-length-is-200"),
        pytest.param(Sampling(), 21, 10, False, Budget(21, 189, 0), id="prefix-does-not-count"),
        pytest.param(
            Sampling(max_length=50), 11, 0, False, Budget(11, 39, 0), id="max-length-counts-both"
        ),
        pytest.param(
            Sampling(max_length=5, max_new_tokens=9),
            11,
            0,
            False,
            Budget(11, 9, 0),
            id="max-new-tokens-wins",
        ),
        pytest.param(
            Sampling(min_length=20), 11, 0, False, Budget(11, 189, 9), id="min-length-counts-both"
        ),
        pytest.param(
            Sampling(min_length=5),
            11,
            0,
            False,
            Budget(11, 189, 0),
            id="min-length-already-reached",
        ),
        pytest.param(
            Sampling(max_new_tokens=100),
            900,
            0,
            True,
            Budget(412, 100, 0),
            id="hole-trims-the-left",
        ),
        pytest.param(
            Sampling(max_new_tokens=100), 412, 0, False, Budget(412, 100, 0), id="just-fits"
        ),
    ],
)
def test_context_is_shared(
    sampling: Sampling, prompt: int, prefix: int, trim: bool, expected: Budget
) -> None:
    share = budget(sampling, LIMITS, prompt_tokens=prompt, prefix_tokens=prefix, trim_prompt=trim)
    assert share == expected


def test_the_default_length_bends_to_a_small_server() -> None:
    assert budget(Sampling(), Limits(64, 64), prompt_tokens=4) == Budget(4, 60, 0)
    assert budget(Sampling(), Limits(512, 16), prompt_tokens=4) == Budget(4, 16, 0)


@pytest.mark.parametrize(
    ("sampling", "prompt", "trim", "text"),
    [
        pytest.param(
            Sampling(), 300, False, "300 tokens leave no room in max_length 200", id="no-room"
        ),
        pytest.param(
            Sampling(max_new_tokens=257), 1, False, "above the limit of 256", id="above-the-limit"
        ),
        pytest.param(
            Sampling(max_length=512),
            1,
            False,
            "511 new tokens are above",
            id="explicit-is-not-bent",
        ),
        pytest.param(Sampling(max_new_tokens=100), 413, False, "context of 512", id="one-too-many"),
        pytest.param(
            Sampling(min_length=300), 11, False, "asks for 289 new tokens", id="min-above-max"
        ),
    ],
)
def test_what_does_not_fit_is_refused(
    sampling: Sampling, prompt: int, trim: bool, text: str
) -> None:
    with pytest.raises(Refused) as refused:
        budget(sampling, LIMITS, prompt_tokens=prompt, trim_prompt=trim)
    assert refused.value.status == 400
    assert text in refused.value.detail
    assert refused.value.hint


def test_a_hole_needs_room_for_one_token_of_the_prompt() -> None:
    with pytest.raises(Refused):
        budget(Sampling(max_new_tokens=512), Limits(512, 512), prompt_tokens=9, trim_prompt=True)
