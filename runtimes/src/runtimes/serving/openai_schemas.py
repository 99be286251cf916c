"""The bodies of OpenAI's chat and text completions, as far as a language model can do what they ask.

A field that would change the answer and cannot be honoured is refused by name; one that would change nothing
is taken and has no effect. Source: OpenAI's API reference for `/v1/chat/completions` and `/v1/completions`.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from runtimes.engines.contract import Generation, Message, Refused, Sampling
from runtimes.serving.schemas import MAX_TOKENS, Number, StopStrings, as_list

Tokens = Annotated[int, Field(ge=1, le=MAX_TOKENS)]
Zero = Annotated[float, Field(ge=0, le=0)]
Empty = Annotated[list[Any], Field(max_length=0)]
# Below this, chances differ by less than a float can tell: the likeliest token is meant.
GREEDY_BELOW = 0.01


class StreamOptions(BaseModel):
    """What a streamed answer carries beside its text."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    include_usage: bool = False
    """one more event at the end with the counts of tokens"""
    include_obfuscation: bool | None = None
    """no effect: events are not padded"""


class CompletionBody(BaseModel):
    """What both kinds of completion take."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: Annotated[str, Field(max_length=256)] = ""
    """a name of GET /v1/models; left out: the model that /chat asks"""
    max_tokens: Tokens | None = None
    """most tokens of the answer"""
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = 1.0
    """0 takes the likeliest token; above 1 flattens chances"""
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = 1.0
    """draw from the likeliest tokens that together have this chance"""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = 0
    """draw from so many likeliest tokens; 0 for all; not OpenAI's, but vLLM's"""
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=2)] | None = 1.0
    """above 1 makes tokens that occurred less likely; not OpenAI's, but vLLM's"""
    stop: StopStrings | None = None
    """the answer ends before the first of these texts"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """the same seed and request give the same answer"""
    stream: bool | None = False
    """send the answer while it is made, as server-sent events"""
    stream_options: StreamOptions | None = None
    """only with stream"""
    n: Literal[1] | None = 1
    """answers to one request: one"""
    frequency_penalty: Zero | None = 0.0
    """only 0; see repetition_penalty"""
    presence_penalty: Zero | None = 0.0
    """only 0; see repetition_penalty"""
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None
    """only empty"""
    user: str | None = None
    """no effect"""

    def sampling(self, max_tokens: int | None) -> Sampling:
        """The same for an engine; without `max_tokens` the answer gets all the room there is."""
        temperature = 1.0 if self.temperature is None else self.temperature
        top_p = 1.0 if self.top_p is None else self.top_p
        chance = temperature >= GREEDY_BELOW and top_p > 0
        return Sampling(
            max_new_tokens=max_tokens,
            all_room=max_tokens is None,
            do_sample=chance,
            temperature=temperature if chance else 1.0,
            top_p=top_p if chance else 1.0,
            top_k=self.top_k or 0,
            repetition_penalty=self.repetition_penalty or 1.0,
            stop_strings=tuple(self.stop or ()),
            seed=self.seed if chance else None,
        )

    @property
    def wants_usage(self) -> bool:
        """A streamed answer shall end with the counts of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(BaseModel):
    """A piece of a message; this model reads text only."""

    type: Literal["text"]
    text: str


class ChatMessageBody(BaseModel):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]
    name: str | None = None

    def message(self) -> Message:
        """The same for an engine; `developer` is the newer name of `system`."""
        role = "system" if self.role == "developer" else self.role
        content = self.content
        if not isinstance(content, str):
            content = "".join(part.text for part in content)
        return Message(role, content)


class TextFormat(BaseModel):
    """The only format of an answer."""

    type: Literal["text"]


class ChatCompletionBody(CompletionBody):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessageBody], Field(min_length=1)]
    """the conversation, put into words by the model's chat template"""
    max_completion_tokens: Tokens | None = None
    """most tokens of the answer; the newer name of max_tokens, and wins"""
    logprobs: Literal[False] | None = False
    """only false"""
    top_logprobs: Literal[0] | None = None
    """only 0"""
    response_format: TextFormat | None = None
    """only {"type": "text"}"""
    tools: Empty | None = None
    """only empty"""
    tool_choice: Literal["none", "auto"] | None = None
    """no effect without tools"""
    parallel_tool_calls: bool | None = None
    """no effect without tools"""
    metadata: dict[str, str] | None = None
    """no effect"""
    store: bool | None = None
    """no effect: nothing is kept"""
    service_tier: str | None = None
    """no effect"""

    def generation(self, request_id: str, adapter: str) -> Generation:
        """The same for an engine."""
        return Generation(
            id=request_id,
            sampling=self.sampling(self.max_completion_tokens or self.max_tokens),
            adapter=adapter,
            messages=tuple(item.message() for item in self.messages),
        )


class TextCompletionBody(CompletionBody):
    """`POST /v1/completions`."""

    prompt: Annotated[
        list[str],
        Field(min_length=1, max_length=1),
        BeforeValidator(as_list, json_schema_input_type=str | list[str]),
    ]
    """text to go on from: one to a request"""
    max_tokens: Tokens | None = 16
    """most tokens of the answer"""
    echo: bool | None = False
    """the prompt before the new text"""
    best_of: Literal[1] | None = 1
    """only 1"""
    logprobs: Literal[0] | None = None
    """only 0"""
    suffix: Annotated[str, Field(max_length=0)] | None = None
    """only empty"""

    def generation(self, request_id: str, adapter: str) -> Generation:
        """The same for an engine; raises `Refused` for an empty prompt."""
        if not self.prompt[0]:
            raise Refused(400, "prompt is empty", hint="Send some text", param="prompt")
        return Generation(
            id=request_id,
            sampling=self.sampling(self.max_tokens),
            adapter=adapter,
            prompt=self.prompt[0],
        )
