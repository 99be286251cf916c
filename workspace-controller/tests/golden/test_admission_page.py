"""docs/admission.md tells every rule, with a message that a test has really drawn from it."""

import importlib
import os
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from admission_cases import (
    BROKEN,
    TODAY,
    UPDATES,
    WARNED,
    WARNED_OF_OWN_NODES,
    knowledge,
    workspace,
)

from workspace_controller import rules
from workspace_controller.rules.changes import change_findings
from workspace_controller.rules.check import SERVED, findings, warnings
from workspace_controller.rules.finding import Finding, Rule
from workspace_controller.rules.later_fields import later_warnings

PAGE = Path(__file__).resolve().parents[3] / "docs/admission.md"
MARK = "<!-- Written by `make golden`. -->\n"
ORDER = (
    *("check", "metadata", "selector", "size", "preset", "inference", "adapters"),
    *("inference_config", "tuning", "sources", "training_config", "configs"),
    *("images", "urls", "volumes", "objects", "changes", "later_fields"),
)
MOST_SHOWN = 400


def modules() -> dict[str, ModuleType]:
    found = pkgutil.iter_modules(rules.__path__)
    return {each.name: importlib.import_module(f"{rules.__name__}.{each.name}") for each in found}


def rules_of(module: ModuleType) -> list[Rule]:
    return [each for each in vars(module).values() if isinstance(each, Rule)]


def drawn() -> Iterator[Finding]:
    """Every finding that the cases of the tests give."""
    for case in BROKEN.values():
        yield from findings(workspace(**case.facts), knowledge(**case.knows), TODAY, case.config)
    for _, facts, _ in WARNED.values():
        asked = workspace(**facts)
        yield from [*warnings(asked, knowledge(), TODAY), *later_warnings(asked)]
    yield from warnings(workspace(**WARNED_OF_OWN_NODES), knowledge(byo=True), TODAY)
    for before, after, _ in UPDATES.values():
        yield from change_findings(workspace(**before), workspace(**after))


def kept_by(rule: Rule) -> str:
    if rule.warns:
        return "warning"
    return "API server, webhook" if rule.server else "webhook"


def tables() -> str:
    messages: dict[str, str] = {}
    for each in drawn():
        messages.setdefault(each.rule, str(each))
    found = modules()
    lines: list[str] = []
    for name in ORDER:
        title = (found[name].__doc__ or "").partition("\n")[0].rstrip(".")
        lines += ["", f"### {title}", "", "| rule | kept by | such as |", "|---|---|---|"]
        for rule in rules_of(found[name]):
            said = messages.get(rule.name, "").replace("|", "/")
            shown = said if len(said) <= MOST_SHOWN else f"{said[:MOST_SHOWN]}…"
            lines.append(f"| {rule.says} | {kept_by(rule)} | {shown} |")
    return "\n".join(lines) + "\n"


def test_the_page_tells_every_rule() -> None:
    prose, mark, told = PAGE.read_text().partition(MARK)
    assert mark, "the page has lost its mark"
    if os.environ.get("UPDATE_GOLDEN"):
        PAGE.write_text(prose + mark + tables())
    else:
        assert told == tables(), "run `make golden` and read the diff"


def test_every_rule_has_a_name_of_its_own_and_a_case() -> None:
    found = {name: rules_of(module) for name, module in modules().items()}
    names = [rule.name for each in found.values() for rule in each]
    assert len(names) == len(set(names))
    assert {name for name, each in found.items() if each} == set(ORDER)
    assert set(names) - {each.rule for each in drawn()} == {SERVED.name}
