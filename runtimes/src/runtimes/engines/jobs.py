"""Requests that wait for the engine thread, and which of them run together.

Pure but for the flag `cancelled`, which the event loop sets and the engine thread reads between two steps.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from runtimes.engines.contract import Event, Generation, Refused, Sampling
from runtimes.engines.lengths import Budget


@dataclass(eq=False)
class Job:
    """One request with its prompt as tokens; `emit` may be called from any thread."""

    request: Generation
    prompt: list[int]
    budget: Budget
    emit: Callable[[Event | Refused], None]
    cancelled: bool = False

    @property
    def alone(self) -> bool:
        """True if no other request may share its steps: several sequences, or its own seed."""
        sampling = self.request.sampling
        return (
            sampling.num_beams > 1 or sampling.num_return_sequences > 1 or sampling.seed is not None
        )

    @property
    def settings(self) -> tuple[str, Sampling]:
        """What must be equal in one batch: all but what is watched row by row."""
        sampling = replace(
            self.request.sampling,
            max_length=None,
            max_new_tokens=None,
            all_room=False,
            min_length=self.budget.min_new_tokens,
            stop_strings=(),
        )
        return self.request.adapter, sampling


def take_batch(waiting: deque[Job], *, rows: int, tokens: int) -> list[Job]:
    """Remove and return the longest-waiting job and those that can run with it.

    The batch has at most `rows` jobs and, padded, at most `tokens` tokens, unless it is one job.
    Cancelled jobs are dropped; an empty list means that nothing is left to do.
    """
    while waiting and waiting[0].cancelled:
        waiting.popleft()
    if not waiting:
        return []
    first = waiting.popleft()
    batch = [first]
    if first.alone:
        return batch
    for job in list(waiting):
        if len(batch) == rows:
            break
        if job.cancelled or job.alone or job.settings != first.settings:
            continue
        if _padded([*batch, job]) <= tokens:
            batch.append(job)
            waiting.remove(job)
    return batch


def _padded(batch: list[Job]) -> int:
    """Tokens that the batch holds at its end, padding included."""
    prompt = max(len(job.prompt) for job in batch)
    new = max(job.budget.new_tokens for job in batch)
    return len(batch) * (prompt + new)
