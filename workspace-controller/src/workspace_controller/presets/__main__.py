"""`python -m workspace_controller.presets`: prints the catalogue, or writes its page.

Invariant: `--check` fails when the page differs from the catalogue, so a page edited by hand or
forgotten does not pass.
"""

import argparse
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from workspace_controller.presets.catalog import Preset, catalog
from workspace_controller.presets.page import page
from workspace_controller.presets.rows import serving_table, size_table, tuning_table
from workspace_controller.skus.table import sku_table

PAGE = Path("docs/presets.md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print or write what is asked for; returns 1 for an unknown model or a stale page."""
    options = _parser().parse_args(arguments)
    if options.write or options.check:
        return _keep_page(check=options.check)
    today = datetime.now(UTC).date()
    skus = sku_table(options.cloud)
    if options.tuning:
        print(tuning_table(catalog(), skus, today).text())
        return 0
    if options.sizes:
        print(size_table(skus, today).text())
        return 0
    chosen = tuple(_matching(options.word))
    if not chosen:
        nearest = catalog().nearest(options.word)
        hint = f"; did you mean {nearest}?" if nearest else ""
        print(f"no preset or family is called {options.word!r}{hint}", file=sys.stderr)
        return 1
    print(serving_table(chosen, skus, today).text())
    return 0


def _matching(word: str) -> Sequence[Preset]:
    known = catalog()
    one = known.find(word)
    return [one] if one else [each for each in known.presets if word.lower() in ("", each.family)]


def _keep_page(*, check: bool) -> int:
    text = page(catalog(), sku_table("azure"))
    if PAGE.exists() and PAGE.read_text() == text:
        return 0
    if check:
        print(f"differs: {PAGE}\nrun `make presets-page` and commit the result", file=sys.stderr)
        return 1
    PAGE.write_text(text)
    print(f"wrote: {PAGE}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m workspace_controller.presets",
        description="Print the models that a Workspace can name, what each needs, and the machine size "
        "that is taken where resource.instanceType is left out.",
        epilog="examples: `... phi-4` (one preset), `... qwen3` (a family), `... --tuning`, "
        "`... --sizes --cloud aws`",
    )
    parser.add_argument("word", nargs="?", default="", help="a preset, a hub id or a family")
    parser.add_argument(
        "--cloud", choices=("azure", "aws", "arc"), default="azure", help="whose machine sizes"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--tuning", action="store_true", help="what fine-tuning takes, per method")
    what.add_argument("--sizes", action="store_true", help="the machine sizes of the cloud")
    what.add_argument(
        "--write", action="store_true", help=f"write {PAGE}, from the repository's root"
    )
    what.add_argument("--check", action="store_true", help=f"write nothing; fail if {PAGE} differs")
    return parser


if __name__ == "__main__":
    sys.exit(main())
