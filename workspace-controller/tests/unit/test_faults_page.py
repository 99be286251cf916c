"""The page about faults of earlier releases names only tests, cases and files that exist."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs/faults-of-earlier-releases.md"
ROWS = re.findall(r"^\| (\d+) \| .* \| (.*) \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
FOLDERS = ("workspace-controller/tests", "shared/tests", "e2e/tests")


@cache
def sources() -> dict[Path, str]:
    return {
        path: path.read_text(encoding="utf-8")
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
    }


@cache
def defined() -> dict[str, str]:
    """Every test function, and every class of a machine of states, with its file's text."""
    found = {}
    for text in sources().values():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found[node.name] = text
    return found


def test_there_is_a_row_for_each_fault() -> None:
    assert [int(number) for number, _ in ROWS] == list(range(1, 43))


@pytest.mark.parametrize(("number", "answer"), ROWS)
def test_what_a_row_names_exists(number: str, answer: str) -> None:
    for name in re.findall(r"`((?:test_|\w+Machine)[^`]*)`", answer):
        test, _, case = name.rstrip("]").partition("[")
        assert test in defined(), f"row {number} names {test}"
        assert not case or f'"{case}"' in defined()[test], f"row {number} names the case {case}"
    for file in re.findall(r"`([\w.-]+\.(?:yaml|py|toml))`", answer):
        assert list(ROOT.glob(file)) or list(ROOT.glob(f"workspace-controller/*/**/{file}")), file
    for link in re.findall(r"\]\((adr/[^)]+)\)", answer):
        assert (PAGE.parent / link).exists(), link
