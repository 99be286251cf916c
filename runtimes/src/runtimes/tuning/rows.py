"""Bring rows of any known layout into one of three: a chat, a prompt with its completion, or text.

Pure. A row that has nothing to learn from is told apart from one that is wrong, and neither becomes a sample.
"""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from runtimes.failure import Exit, Failure
from runtimes.tuning.sections import DatasetConfig

Row = Mapping[str, Any]
Message = dict[str, str]

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "tool": "tool",
}
ACCEPTED = (
    "messages; conversations; prompt and completion; instruction and response (or output), with "
    "context (or input); text"
)


class Shape(StrEnum):
    """What a sample is."""

    CHAT = "chat"  # prompt: messages; completion: the one message to learn
    COMPLETION = "completion"  # prompt and completion: texts
    TEXT = "text"  # text, all of it to learn


class Empty(Exception):
    """There is nothing in the row to learn from."""


class Malformed(Exception):
    """The row is not what its columns say; the text tells why, without the row's content."""


@dataclass(frozen=True)
class Layout:
    """How rows with certain columns become samples."""

    shape: Shape
    columns: tuple[str, ...]
    sample: Callable[[Row], dict[str, Any]]


def choose(columns: Collection[str], config: DatasetConfig, text_field: str = "") -> Layout:
    """The layout for rows with these columns. Raises `Failure` that lists them."""
    named = (config.messages_column, config.context_column, config.response_column, text_field)
    for name in named:
        # "text" was written into many files as the default, and never looked at
        if name and name not in columns and name != "text":
            raise _no_layout(columns, f"the config names column {name!r}")
    layout = _by_config(columns, config, text_field) or _by_columns(columns)
    if layout is None:
        raise _no_layout(columns, f"none of the known layouts ({ACCEPTED}) fits")
    return layout


def _by_config(columns: Collection[str], config: DatasetConfig, text_field: str) -> Layout | None:
    if config.messages_column:
        return _chat(config.messages_column)
    text = config.response_column or text_field
    if text not in columns:
        return None
    return _pair(config.context_column, text) if config.context_column else _text(text)


def _by_columns(columns: Collection[str]) -> Layout | None:
    for name in ("messages", "conversations", "conversation"):
        if name in columns:
            return _chat(name)
    if {"prompt", "completion"} <= {*columns}:
        return _pair("prompt", "completion")
    for answer, context in (("response", "context"), ("output", "input")):
        if {"instruction", answer} <= {*columns}:
            return _instruction("instruction", context, answer)
    return _text("text") if "text" in columns else None


def _no_layout(columns: Collection[str], why: str) -> Failure:
    found = ", ".join(sorted(columns)) or "none"
    return Failure(
        Exit.DATA,
        f"the dataset has the columns {found[:300]}: {why}; rename columns, or name them in "
        "DatasetConfig (messages_column; context_column and response_column)",
    )


def _chat(name: str) -> Layout:
    return Layout(Shape.CHAT, (name,), lambda row: _split(_messages(row.get(name))))


def _pair(prompt: str, completion: str) -> Layout:
    def sample(row: Row) -> dict[str, Any]:
        return {"prompt": _words(row, prompt), "completion": _needed(row, completion)}

    return Layout(Shape.COMPLETION, (prompt, completion), sample)


def _instruction(instruction: str, context: str, answer: str) -> Layout:
    def sample(row: Row) -> dict[str, Any]:
        parts = (_needed(row, instruction), _words(row, context).strip())
        prompt = "".join(f"{part}\n\n" for part in parts if part)
        return {"prompt": prompt, "completion": _needed(row, answer)}

    return Layout(Shape.COMPLETION, (instruction, answer), sample)


def _text(name: str) -> Layout:
    return Layout(Shape.TEXT, (name,), lambda row: {"text": _needed(row, name)})


def _words(row: Row, name: str) -> str:
    value = row.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Malformed(f"{name} is {type(value).__name__}, not text")
    return value


def _needed(row: Row, name: str) -> str:
    words = _words(row, name)
    if not words.strip():
        raise Empty
    return words


def _messages(value: Any) -> list[Message]:
    if isinstance(value, str):  # a cell of a CSV file
        try:
            value = json.loads(value)
        except ValueError as error:
            raise Malformed("messages are text that is not JSON") from error
    if not isinstance(value, Sequence):
        raise Malformed(f"messages are {type(value).__name__}, not a list")
    return [_message(item) for item in value]


def _message(item: Any) -> Message:
    if not isinstance(item, Mapping):
        raise Malformed("a message is not an object")
    role = item.get("role") or item.get("from")
    content = item.get("content") if item.get("content") is not None else item.get("value")
    if str(role).lower() not in ROLES:
        raise Malformed(f"a message's role is {str(role)[:20]!r}; known: {', '.join(ROLES)}")
    if isinstance(content, list):  # parts; only text can be learned from
        parts = [part for part in content if isinstance(part, Mapping)]
        if any(part.get("type") != "text" for part in parts) or len(parts) != len(content):
            raise Malformed("a message has parts that are not text")
        content = "".join(str(part.get("text", "")) for part in parts)
    if not isinstance(content, str):
        raise Malformed("a message's content is not text")
    return {"role": ROLES[str(role).lower()], "content": content}


def _split(messages: list[Message]) -> dict[str, Any]:
    """The last answer is what is learned, and what came before it is what it answers."""
    answers = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    if not answers or not messages[answers[-1]]["content"].strip():
        raise Empty
    last = answers[-1]
    if not any(message["role"] == "user" for message in messages[:last]):
        raise Malformed("nobody asks before the last answer")
    return {"prompt": messages[:last], "completion": [messages[last]]}
