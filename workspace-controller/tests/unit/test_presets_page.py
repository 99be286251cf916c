"""The catalogue as a table and as a page."""

from datetime import date
from pathlib import Path

import pytest
import yaml

from gpuapis.workspace import Workspace
from workspace_controller.presets import __main__ as program
from workspace_controller.presets.catalog import catalog
from workspace_controller.presets.page import page
from workspace_controller.presets.rows import Table
from workspace_controller.skus.table import sku_table

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLES = REPOSITORY / "examples" / "inference"


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert program.main(arguments) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_the_page_is_what_the_catalogue_says() -> None:
    assert (REPOSITORY / "docs" / "presets.md").read_text() == page(catalog(), sku_table("azure"))


def test_the_page_names_every_preset_size_and_source() -> None:
    text = page(catalog(), sku_table("azure"))
    azure = sku_table("azure")
    words = [*catalog().names, *(each.name for each in (*azure.skus, *azure.unmeasured))]
    assert [word for word in (*words, *azure.sources) if word not in text] == []


def test_all_presets_are_printed_with_a_size_each(capsys: pytest.CaptureFixture[str]) -> None:
    headings, *rows = printed(capsys)
    assert headings[0] == "PRESET"
    assert [row[0] for row in rows] == [preset.name for preset in catalog().presets]
    assert all("Standard_N" in " ".join(row) for row in rows)


@pytest.mark.parametrize(
    ("word", "names"),
    [
        ("microsoft/phi-4", ["phi-4"]),
        ("gpt-oss", ["gpt-oss-20b", "gpt-oss-120b"]),
        ("Phi-4", ["phi-4"]),
    ],
)
def test_a_preset_or_a_family_is_printed(
    capsys: pytest.CaptureFixture[str], word: str, names: list[str]
) -> None:
    assert [row[0] for row in printed(capsys, word)[1:]] == names


def test_tuning_and_sizes_are_printed_on_demand(capsys: pytest.CaptureFixture[str]) -> None:
    assert "4.4 GiB" in " ".join(printed(capsys, "--tuning", "--cloud", "azure")[5])
    names = {row[0] for row in printed(capsys, "--sizes", "--cloud", "aws")}
    assert "p5.48xlarge" in names


def test_a_mistyped_model_is_told_its_neighbour(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["fi-4"]) == 1
    assert "no preset or family is called 'fi-4'; did you mean phi-4?" in capsys.readouterr().err


def test_a_page_that_differs_does_not_pass_and_is_written_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(program, "PAGE", tmp_path / "presets.md")
    assert program.main(["--check"]) == 1
    assert "run `make presets-page`" in capsys.readouterr().err
    assert program.main(["--write"]) == 0
    assert program.main(["--check"]) == 0
    with program.PAGE.open("a") as file:
        file.write("by hand\n")
    assert program.main(["--check"]) == 1


def test_a_table_has_aligned_columns() -> None:
    table = Table(("A", "B"), (("long", "1"), ("x", "22")))
    assert table.text() == "A     B\nlong  1\nx     22"
    assert table.markdown() == "| A | B |\n| --- | --- |\n| long | 1 |\n| x | 22 |"


def test_every_family_has_an_example() -> None:
    families = set()
    for path in EXAMPLES.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            if document["kind"] == "Workspace":
                inference = Workspace.model_validate(document).inference
                if inference is not None and inference.preset is not None:
                    preset = catalog().find(inference.preset.name)
                    assert preset is not None, path
                    families.add(preset.family)
    assert families == {preset.family for preset in catalog().presets}


def test_no_example_takes_a_size_that_is_gone() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            name = document.get("resource", {}).get("instanceType")
            size = sku_table("azure").find(name) if name else None
            assert size is None or size.in_service(date(2026, 11, 24)), path
