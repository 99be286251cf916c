"""The ConfigMaps that a Workspace names, as far as they were read.

Invariant: the rules look at what was read and never read themselves.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from workspace_controller.reading import shown
from workspace_controller.rules.finding import Finding, Rule

EXISTS = Rule("config-exists", "The ConfigMap is there, in the Workspace's namespace.")
READABLE = Rule("config-readable", "The ConfigMap could be read in time.")


@dataclass(frozen=True)
class ConfigRead:
    """One ConfigMap.

    Attributes:
        name: its name.
        data: its content; None when there is no such ConfigMap.
        trouble: why it could not be read; "" when it could.
    """

    name: str
    data: Mapping[str, str] | None = None
    trouble: str = ""


def config_findings(
    field: str, config: ConfigRead, rule: Rule, problems: Iterator[str]
) -> Iterator[Finding]:
    """What is wrong with a ConfigMap and, where it was read, with its content.

    Args:
        field: which field names it.
        config: what was read.
        rule: the rule that its content breaks.
        problems: what is wrong with the content, drawn from only if it is there.
    """
    if config.trouble:
        yield READABLE.broken(
            field,
            f"{shown(config.name)} could not be read: {config.trouble}. Apply the Workspace again",
            config.name,
        )
    elif config.data is None:
        yield EXISTS.broken(
            field,
            f"{shown(config.name)} names a ConfigMap that is not in the Workspace's namespace: "
            "apply it first",
            config.name,
        )
    else:
        for problem in problems:
            yield rule.broken(field, f"{shown(config.name)}: {problem}", problem)
