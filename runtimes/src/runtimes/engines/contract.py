"""What the serving program and an engine know of each other.

Nothing here is about web frameworks, torch or one model library, so any engine can stand behind any route.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Literal, Protocol

import httpx2

FinishReason = Literal["stop", "length"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; None leaves a setting to the model's own generation config.

    `max_length` and `min_length` count prompt and new tokens together, `max_new_tokens` only the new ones
    and wins over `max_length`; `all_room` asks for as many new tokens as the limits leave, and wins over both.
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    all_room: bool = False
    min_length: int = 0
    do_sample: bool = True
    early_stopping: bool = False
    num_beams: int = 1
    temperature: float = 1.0
    top_k: int = 10
    top_p: float = 1.0
    typical_p: float = 1.0
    repetition_penalty: float = 1.0
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    encoder_no_repeat_ngram_size: int | None = None
    bad_words_ids: tuple[tuple[int, ...], ...] | None = None
    num_return_sequences: int = 1
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    remove_invalid_values: bool | None = None
    pad_token_id: int | None = None
    eos_token_ids: tuple[int, ...] | None = None
    stop_strings: tuple[str, ...] = ()
    seed: int | None = None


@dataclass(frozen=True)
class Generation:
    """One request for text: either `prompt` or `messages` is set.

    `adapter` names what is put on the base model for this request; empty: what `/chat` always gets.
    `trim_prompt` cuts the left of a prompt that leaves no room for the new tokens.
    """

    id: str
    sampling: Sampling
    adapter: str = ""
    prompt: str | None = None
    prefix: str = ""
    messages: tuple[Message, ...] = ()
    trim_prompt: bool = False
    clean_up_spaces: bool = False


@dataclass(frozen=True)
class Started:
    """The request has left the queue."""

    prompt_tokens: int


@dataclass(frozen=True)
class Delta:
    """A step of the answer; `text` may be empty while a character is incomplete."""

    text: str
    tokens: int


@dataclass(frozen=True)
class Finished:
    """The whole answer: one new text for each sequence that was asked for, without the prompt."""

    texts: tuple[str, ...]
    new_tokens: int
    reason: FinishReason


Event = Started | Delta | Finished


@dataclass(frozen=True)
class AdapterInfo:
    """A loaded LoRA adapter; `strength` is what its effect is multiplied with, from 0 to 1."""

    name: str
    rank: int
    strength: float


@dataclass(frozen=True)
class ModelInfo:
    """What was loaded, for metrics, logs and listings.

    `selectable` are the names that a request may put into `Generation.adapter`.
    """

    name: str
    revision: str
    engine: str
    version: str
    dtype: str
    quantization: str
    max_model_len: int
    device: str
    adapters: tuple[AdapterInfo, ...] = ()
    selectable: tuple[str, ...] = ()


@dataclass(eq=False)
class Refused(Exception):
    """A request cannot be answered; `status` is the HTTP status, `hint` says what to change.

    `detail` is the sentence that clients may compare, so it stays the same for the same cause. `code` is
    that cause for programs, as OpenAI's clients know it, and `param` the field that holds it.
    """

    status: int
    detail: str
    hint: str = ""
    retry_after: int | None = None
    code: str = ""
    param: str = ""

    def __str__(self) -> str:
        return f"{self.detail}. {self.hint}" if self.hint else self.detail


class Engine(Protocol):
    """A loaded model behind one interface.

    An engine with a server of its own is asked through `upstream`: OpenAI's interface is then the engine's.
    """

    @property
    def upstream(self) -> httpx2.AsyncClient | None:
        """Asks the engine's own server."""

    async def load(self) -> ModelInfo:
        """Load the model; returns when it has answered once. Raises `StartupFailure`."""

    async def run(self) -> None:
        """Work on requests until cancelled; must run while `generate` is used."""

    def generate(self, request: Generation) -> AsyncGenerator[Event, None]:
        """Yield `Started`, then any number of `Delta`, then one `Finished`.

        Closing the iterator early (`contextlib.aclosing`) stops the work within one step.
        Raises `Refused`.
        """

    async def exposition(self) -> str:
        """Metrics of its own, as lines of Prometheus text."""

    def problems(self) -> list[str]:
        """Why the engine will never answer again, as sentences; empty while it can."""

    async def close(self) -> None:
        """Stop running work and free the model; never takes more than a few seconds."""
