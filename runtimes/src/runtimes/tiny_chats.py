"""Write a tiny dataset of chats as a parquet file, for tests and the sandbox.

The same call always writes the same rows, in the shape that chat datasets on the model hub have.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

CHATS = (
    ("What is a GPU?", "A machine with a graphics card hands out answers."),
    ("When is the model ready?", "When the node is ready the model is loaded."),
    ("Tell me a short story.", "A ship carried other ships across the sea."),
    ("What is the weather like?", "It is warm and bright, with some wind."),
    ("Who hands out machines?", "A cluster hands out machines to who asks."),
    ("How many workers are there?", "There are many workers in the house today."),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the dataset into the file named on the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m runtimes.tiny_chats",
        description=f"Write {len(CHATS)} chats into a parquet file, to fine-tune the tiny model "
        "in seconds.",
    )
    parser.add_argument("out_file", metavar="OUT_FILE", type=Path, help="its folder must exist")
    out_file: Path = parser.parse_args(arguments).out_file
    try:
        build(out_file)
    except OSError as error:
        parser.error(f"cannot write {out_file}: {error.strerror}")
    sys.stdout.write(f"Wrote {len(CHATS)} chats to {out_file}\n")
    return 0


def build(out_file: Path) -> None:
    """Write the rows: one column, `messages`, each a list of roles and contents."""
    rows = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        for asked, answered in CHATS
    ]
    pyarrow.parquet.write_table(pa.table({"messages": rows}), out_file)


if __name__ == "__main__":
    sys.exit(main())
