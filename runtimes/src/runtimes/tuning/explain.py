"""Make a reason that a person can act on of what libraries raise while a model is trained."""

import errno
from collections.abc import Iterator

from runtimes.failure import Exit, Failure

ADVICE = (
    "in TrainingArguments set per_device_train_batch_size: 1, a smaller max_length and "
    "gradient_checkpointing: true; use qlora; or take a larger instance type"
)
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory")
# torch's writer of checkpoints tells no errno; this is what it says of a disk that took half a block
_FULL = ("no space left", "disk quota exceeded", "unexpected pos", "pytorchstreamwriter failed")


def explain(error: BaseException) -> Failure:
    """The failure behind an error."""
    for cause in _causes(error):
        text = str(cause).lower()
        if isinstance(cause, Failure):
            return cause
        if isinstance(cause, MemoryError) or any(words in text for words in _NO_MEMORY):
            return out_of_memory(_line(cause))
        if isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}:
            return disk_full(_line(cause))
        if any(words in text for words in _FULL):
            return disk_full(_line(cause))
    return Failure(Exit.UNEXPECTED, f"unexpected: {type(error).__name__}: {_line(error)}")


def out_of_memory(what: str) -> Failure:
    """Too little memory, on a GPU or in the container."""
    return Failure(Exit.MEMORY, f"out of memory ({what}): {ADVICE}", "OutOfMemory")


def disk_full(what: str) -> Failure:
    """No room for checkpoints, results or temporary files."""
    return Failure(
        Exit.UNEXPECTED,
        f"the disk is full ({what}): give --output_dir a larger volume, or the node a larger disk; "
        "each checkpoint has about three times the adapter's size",
        "DiskFull",
    )


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        if isinstance(seen, BaseExceptionGroup):
            yield from seen.exceptions
        seen = seen.__cause__


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
