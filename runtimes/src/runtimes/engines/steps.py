"""What happens between two steps of generation: tokens are handed out, and work that nobody wants stops.

transformers calls a stopping criterion after every step with all tokens so far; one answer per row says
whether that row is done. This is the only hook, so streaming, limits and cancelling cannot disagree.
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from transformers import StoppingCriteria

from runtimes.engines.contract import Delta, Finished, FinishReason
from runtimes.engines.detokenizer import Decoder, Detokenizer
from runtimes.engines.jobs import Job


class Row:
    """One request's place in a running batch."""

    def __init__(self, job: Job, decoder: Decoder, stop_tokens: frozenset[int]) -> None:
        self._job = job
        self._stop_tokens = stop_tokens
        self._detokenizer = Detokenizer(decoder, job.prompt)
        self._new_tokens = 0
        self._tail = ""
        self._done = False

    def take(self, token: int) -> bool:
        """Account for one more token; True when this row wants no more."""
        if self._done or self._job.cancelled:
            return True
        self._new_tokens += 1
        text = self._detokenizer.push(token)
        self._job.emit(Delta(text, 1))
        if token in self._stop_tokens or self._stops(text):
            return self._finish("stop")
        if self._new_tokens >= self._job.budget.new_tokens:
            return self._finish("length")
        return False

    def _stops(self, text: str) -> bool:
        stops = self._job.request.sampling.stop_strings
        if not stops or not text:
            return False
        self._tail += text
        found = any(stop in self._tail for stop in stops)
        self._tail = self._tail[-max(map(len, stops)) :]
        return found

    def _finish(self, reason: FinishReason) -> bool:
        self._done = True
        text = self._detokenizer.whole(clean_up_spaces=self._job.request.clean_up_spaces)
        self._job.emit(Finished((text,), self._new_tokens, reason))
        return True


class WatchRows(StoppingCriteria):
    """Feeds a batch of rows, in the order of the batch."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any
    ) -> torch.BoolTensor:
        """Which rows are done; the last column of `input_ids` is new."""
        del scores, kwargs
        tokens: list[int] = input_ids[:, -1].tolist()
        done = [row.take(token) for row, token in zip(self._rows, tokens, strict=True)]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))


class WatchCancelled(StoppingCriteria):
    """Stops a job of several sequences, whose rows mean nothing before the end."""

    def __init__(self, job: Job) -> None:
        self._job = job

    def __call__(
        self, input_ids: torch.LongTensor, scores: torch.FloatTensor, **kwargs: Any
    ) -> torch.BoolTensor:
        """All rows are done once the job is cancelled."""
        del scores, kwargs
        done = [self._job.cancelled] * input_ids.shape[0]
        return cast(torch.BoolTensor, torch.tensor(done, device=input_ids.device))
