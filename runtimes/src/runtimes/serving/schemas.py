"""The body of `POST /chat` and of its answer, field by field as clients have known them since v0.3.

What a request may ask of the model is listed here with its range; what is not listed is refused by name.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from runtimes.engines.contract import Generation, Message, Refused, Sampling

Token = Annotated[int, Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
StopString = Annotated[str, Field(min_length=1, max_length=64)]
MAX_TOKENS = 1_000_000
# Taken because clients have always sent them; there is nothing for an engine to do about them.
WITHOUT_EFFECT = {
    "num_beam_groups",
    "diversity_penalty",
    "output_scores",
    "return_dict_in_generate",
}


def as_list(value: Any) -> Any:
    """One item may stand for a list of one."""
    return value if value is None or isinstance(value, list) else [value]


StopStrings = Annotated[
    list[StopString],
    Field(max_length=16),
    BeforeValidator(as_list, json_schema_input_type=StopString | list[StopString]),
]


class ChatMessage(BaseModel):
    """One turn of a conversation."""

    role: Annotated[str, Field(max_length=64)]
    content: str


class GenerateKwargs(BaseModel):
    """How the model chooses tokens; null is the same as leaving a key out."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    max_length: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = 200
    """most tokens of prompt and answer together; max_new_tokens wins"""
    max_new_tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)] | None = None
    """most tokens of the answer"""
    min_length: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = 0
    """fewest tokens of prompt and answer together"""
    do_sample: bool | None = True
    """draw tokens by chance; false takes the likeliest"""
    early_stopping: bool | None = False
    """end beam search with the first num_beams candidates"""
    num_beams: Annotated[int, Field(ge=1, le=8)] | None = 1
    """beams of beam search; 1 for none"""
    temperature: Annotated[Number, Field(ge=0.01, le=100)] | None = 1.0
    """above 1 flattens chances, below 1 sharpens them"""
    top_k: Annotated[int, Field(ge=0, le=1_000_000)] | None = 10
    """draw from so many likeliest tokens; 0 for all"""
    top_p: Annotated[Number, Field(gt=0, le=1)] | None = 1.0
    """draw from the likeliest tokens that together have this chance"""
    typical_p: Annotated[Number, Field(gt=0, le=1)] | None = 1.0
    """draw from the most typical tokens that together have this chance"""
    repetition_penalty: Annotated[Number, Field(ge=0.01, le=100)] | None = 1.0
    """above 1 makes tokens that occurred less likely"""
    length_penalty: Annotated[Number, Field(ge=-100, le=100)] | None = None
    """above 0 lets beam search prefer long answers"""
    no_repeat_ngram_size: Annotated[int, Field(ge=0, le=100)] | None = None
    """no run of so many tokens occurs twice; 0 for no limit"""
    encoder_no_repeat_ngram_size: Annotated[int, Field(ge=0, le=100)] | None = None
    """no run of so many tokens of the prompt occurs again"""
    bad_words_ids: (
        Annotated[
            list[Annotated[list[Token], Field(min_length=1, max_length=64)]], Field(max_length=256)
        ]
        | None
    ) = None
    """runs of tokens that must not be made"""
    num_return_sequences: Annotated[int, Field(ge=1, le=8)] | None = 1
    """so many answers, one after the other in one Result"""
    forced_bos_token_id: Token | None = None
    """first token of the answer"""
    forced_eos_token_id: Token | None = None
    """last token of an answer that reaches its length"""
    remove_invalid_values: bool | None = None
    """repair values that are no numbers"""
    pad_token_id: Token | None = None
    """default: the tokenizer's"""
    eos_token_id: (
        Annotated[
            list[Token],
            Field(min_length=1, max_length=16),
            BeforeValidator(as_list, json_schema_input_type=Token | list[Token]),
        ]
        | None
    ) = None
    """tokens that end the answer; default: the tokenizer's and those of the model's own file"""
    stop_strings: StopStrings | None = None
    """the answer ends with the first of these texts"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    """the same seed and request give the same answer"""
    num_beam_groups: Literal[1] | None = 1
    """group beam search is no more: only 1"""
    diversity_penalty: Annotated[float, Field(ge=0, le=0)] | None = 0.0
    """belonged to group beam search: only 0"""
    output_scores: bool | None = False
    """taken as ever; an answer is text and carries no scores"""
    return_dict_in_generate: bool | None = False
    """taken as ever; an answer is text"""

    @model_validator(mode="after")
    def _combinations(self) -> Self:
        sequences = self.num_return_sequences or 1
        beams = self.num_beams or 1
        if self.do_sample is False and sequences > beams:
            raise ValueError("num_return_sequences above num_beams needs do_sample true")
        if self.stop_strings and (sequences > 1 or beams > 1):
            raise ValueError("stop_strings need num_beams 1 and num_return_sequences 1")
        return self

    def sampling(self) -> Sampling:
        """The same for an engine, which has the same defaults."""
        given = self.model_dump(exclude_unset=True, exclude_none=True, exclude=WITHOUT_EFFECT)
        if (ends := given.pop("eos_token_id", None)) is not None:
            given["eos_token_ids"] = tuple(ends)
        if (stops := given.pop("stop_strings", None)) is not None:
            given["stop_strings"] = tuple(stops)
        if (words := given.pop("bad_words_ids", None)) is not None:
            given["bad_words_ids"] = tuple(map(tuple, words))
        return Sampling(**given)


class ChatRequest(BaseModel):
    """A prompt or a conversation, and what to do with it."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    prompt: str | None = None
    """text to go on from"""
    messages: list[ChatMessage] | None = None
    """a conversation, put into words by the model's chat template"""
    return_full_text: bool = True
    """the prompt before the new text; false: only the new text"""
    clean_up_tokenization_spaces: bool = False
    """remove spaces that tokens left before punctuation"""
    prefix: str | None = None
    """put before the prompt, but not into the Result"""
    stream: bool = False
    """send the new text as it is made, in events {"delta": text}; the last one holds the Result"""
    handle_long_generation: Literal["hole"] | None = None
    """"hole" drops the left of a prompt that leaves no room for the answer"""
    generate_kwargs: GenerateKwargs | None = Field(default_factory=GenerateKwargs)
    """how tokens are chosen"""

    def generation(self, request_id: str, pipeline: str) -> Generation:
        """The same for an engine; raises `Refused` with the texts that clients have known since v0.3."""
        if self.prompt and self.messages:
            raise Refused(400, "Invalid pipeline type", hint="Send prompt or messages, not both")
        if not self.prompt and not self.messages:
            if pipeline == "conversational":
                raise Refused(
                    400,
                    "Conversational parameter messages required",
                    hint="Send messages or prompt",
                )
            raise Refused(
                400, "Text generation parameter prompt required", hint="Send prompt or messages"
            )
        kwargs = self.generate_kwargs or GenerateKwargs()
        return Generation(
            id=request_id,
            sampling=kwargs.sampling(),
            prompt=self.prompt or None,
            prefix=self.prefix or "",
            messages=tuple(Message(item.role, item.content) for item in self.messages or ()),
            trim_prompt=self.handle_long_generation == "hole",
            clean_up_spaces=self.clean_up_tokenization_spaces,
        )

    def result(self, texts: tuple[str, ...]) -> str:
        """What `Result` holds: every answer, with the prompt before each if that was asked for."""
        before = self.prompt if self.prompt and self.return_full_text else ""
        return "".join(before + text for text in texts)


class ChatAnswer(BaseModel):
    """The text that was made."""

    Result: str
