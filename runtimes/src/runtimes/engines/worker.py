"""The part of the transformers engine that runs on the model thread: batches in, events out."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from runtimes.engines.contract import Finished, Started
from runtimes.engines.detokenizer import Detokenizer
from runtimes.engines.jobs import Job
from runtimes.engines.loading import Loaded
from runtimes.engines.sampling import generation_config
from runtimes.engines.steps import Row, WatchCancelled, WatchRows

Activate = Callable[[str], AbstractContextManager[None]]


def _base_only(adapter: str) -> AbstractContextManager[None]:
    del adapter
    return nullcontext()


class Worker:
    """Owns the model; every method must be called on one and the same thread.

    `activate` gives the model the adapter that a request names, for as long as it holds.
    """

    def __init__(self, loaded: Loaded, activate: Activate = _base_only) -> None:
        self._model = loaded.model
        self._activate = activate
        self._tokenizer = loaded.tokenizer
        self._ends = _end_tokens(loaded)

    def run(self, batch: Sequence[Job]) -> None:
        """Generate for jobs that `take_batch` put together; each gets its events."""
        for job in batch:
            job.emit(Started(len(job.prompt)))
        with self._activate(batch[0].request.adapter):
            self._answer(batch)

    def _answer(self, batch: Sequence[Job]) -> None:
        sampling = batch[0].request.sampling
        if sampling.num_beams > 1 or sampling.num_return_sequences > 1:
            self._sequences(batch[0])
            return
        ends = sampling.eos_token_ids or self._ends
        rows = [Row(job, self._tokenizer, frozenset(ends)) for job in batch]
        self._generate(batch, WatchRows(rows))

    def _sequences(self, job: Job) -> None:
        """Several sequences for one request: their tokens are known only at the end."""
        sampling = job.request.sampling
        output = self._generate([job], WatchCancelled(job))
        if job.cancelled:
            return
        ends = frozenset(sampling.eos_token_ids or self._ends)
        texts, new_tokens, ended = [], 0, True
        for sequence in output[:, len(job.prompt) :].tolist():
            tokens = _until_end(sequence, ends)
            detokenizer = Detokenizer(self._tokenizer, job.prompt)
            for token in tokens:
                detokenizer.push(token)
            texts.append(detokenizer.whole(clean_up_spaces=job.request.clean_up_spaces))
            new_tokens += len(tokens)
            ended = ended and tokens[-1] in ends
        job.emit(Finished(tuple(texts), new_tokens, "stop" if ended else "length"))

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Job], watch: StoppingCriteria) -> Any:
        sampling = batch[0].request.sampling
        ends = sampling.eos_token_ids or self._ends
        pad = self._pad(sampling.pad_token_id, ends)
        if sampling.seed is not None:
            torch.manual_seed(sampling.seed)
        tokens, mask = _pad_left([job.prompt for job in batch], pad)
        return self._model.generate(
            tokens.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            generation_config=generation_config(
                sampling,
                new_tokens=max(job.budget.new_tokens for job in batch),
                min_new_tokens=batch[0].budget.min_new_tokens,
                pad_token_id=pad,
                eos_token_ids=ends,
            ),
            stopping_criteria=StoppingCriteriaList([watch]),
        )

    def _pad(self, asked: int | None, ends: Sequence[int]) -> int:
        """Padding is masked, so any token does for a model that names none."""
        for token in (asked, self._tokenizer.pad_token_id, *ends):
            if token is not None:
                return int(token)
        return 0


def _end_tokens(loaded: Loaded) -> tuple[int, ...]:
    """What ends an answer: the tokenizer's end of text, and what the model's own file adds to it."""
    named = loaded.model.generation_config.eos_token_id
    ends = named if isinstance(named, list) else [named]
    known = {token for token in (loaded.tokenizer.eos_token_id, *ends) if token is not None}
    return tuple(sorted(known))


def _pad_left(prompts: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Prompts as one matrix whose right edge is where every answer begins, and its mask."""
    width = max(map(len, prompts))
    tokens = [[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts]
    mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    return torch.tensor(tokens), torch.tensor(mask)


def _until_end(sequence: Sequence[int], ends: frozenset[int]) -> list[int]:
    """The tokens up to and with the first end; what follows is padding."""
    for place, token in enumerate(sequence):
        if token in ends:
            return list(sequence[: place + 1])
    return list(sequence)
