from collections import deque
from typing import Any

from runtimes.engines.contract import Event, Generation, Refused, Sampling
from runtimes.engines.jobs import Job, take_batch
from runtimes.engines.lengths import Budget


def ignore(event: Event | Refused) -> None:
    del event


def job(
    name: str, prompt: int = 10, new: int = 20, min_new: int = 0, adapter: str = "", **sampling: Any
) -> Job:
    request = Generation(id=name, sampling=Sampling(**sampling), adapter=adapter, prompt="text")
    return Job(request, [1] * prompt, Budget(prompt, new, min_new), ignore)


def names(batch: list[Job]) -> list[str]:
    return [job.request.id for job in batch]


def take(waiting: deque[Job], rows: int = 8, tokens: int = 4096) -> list[str]:
    return names(take_batch(waiting, rows=rows, tokens=tokens))


def test_jobs_alike_run_together_in_order() -> None:
    waiting = deque([job("a"), job("b", prompt=3, new=7), job("c", max_new_tokens=5)])
    assert take(waiting) == ["a", "b", "c"]
    assert not waiting


def test_other_settings_wait_for_their_own_turn() -> None:
    others = [job("cold", temperature=0.5), job("longer", min_new=3), job("lora", adapter="x")]
    waiting = deque([job("a"), *others, job("b")])
    assert take(waiting) == ["a", "b"]
    assert [take(waiting) for _ in others] == [["cold"], ["longer"], ["lora"]]


def test_the_longest_waiting_job_is_never_passed_over() -> None:
    waiting = deque([job("seeded", seed=1), job("a"), job("b")])
    assert take(waiting) == ["seeded"]
    assert take(waiting) == ["a", "b"]


def test_seeds_beams_and_sequences_run_alone() -> None:
    settings: list[dict[str, Any]] = [{"seed": 1}, {"num_beams": 2}, {"num_return_sequences": 2}]
    for alone in settings:
        waiting = deque([job("a"), job("alone", **alone), job("b")])
        assert take(waiting) == ["a", "b"]
        assert take(waiting) == ["alone"]


def test_stop_strings_are_each_rows_own() -> None:
    waiting = deque([job("a"), job("b", stop_strings=("END",))])
    assert take(waiting) == ["a", "b"]


def test_rows_are_bounded() -> None:
    waiting = deque([job(str(number)) for number in range(5)])
    assert take(waiting, rows=3) == ["0", "1", "2"]
    assert take(waiting, rows=3) == ["3", "4"]


def test_padded_tokens_are_bounded_but_one_job_always_runs() -> None:
    waiting = deque([job("long", prompt=500, new=100), job("short"), job("short too")])
    assert take(waiting, tokens=600) == ["long"]
    assert take(waiting, tokens=60) == ["short", "short too"]


def test_cancelled_jobs_are_dropped() -> None:
    waiting = deque([job("gone"), job("a"), job("gone too"), job("b")])
    waiting[0].cancelled = waiting[2].cancelled = True
    assert take(waiting) == ["a", "b"]
    assert take(waiting) == []
    assert not waiting
