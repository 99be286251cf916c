"""Turns verdicts into the report: a table of all behaviours, and whether every difference is known.

Invariant: pure; a difference counts as explained only by a sentence that is written down for this
provisioner and number, and a sentence without its difference is reported as well.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from conformance.suite import BEHAVIOURS, Behaviour, Kind, Outcome, order

EXPLANATIONS = Path(__file__).with_name("explanations")
SOMETIMES = "Sometimes:"
"""How a sentence begins whose difference is not seen every time."""
NAMES: Mapping[Kind, str] = {"machine": "Machine", "nodeclaim": "NodeClaim"}


@cache
def explanations(provisioner: str) -> Mapping[str, str]:
    """Returns why a provisioner differs, by number; nothing for one that nobody has studied."""
    path = EXPLANATIONS / f"{provisioner}.yaml"
    if not path.is_file():
        return {}
    found = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    return {str(number): " ".join(text.split()) for number, text in found.items()}


@dataclass(frozen=True)
class Report:
    """All verdicts on one provisioner."""

    provisioner: str
    kinds: Sequence[Kind]
    outcomes: Sequence[Outcome]
    seconds: float

    @property
    def unexplained(self) -> list[Outcome]:
        """What is not kept, and nobody has said why."""
        known = explanations(self.provisioner)
        return [o for o in self.outcomes if o.verdict != "kept" and not self._excused(o, known)]

    @property
    def outdated(self) -> list[str]:
        """Numbers whose difference is explained and was not found."""
        known = explanations(self.provisioner)
        always = {number for number, text in known.items() if not text.startswith(SOMETIMES)}
        judged = {o.number for o in self.outcomes}
        differing = {o.number for o in self.outcomes if o.verdict != "kept"}
        return sorted(judged & always - differing, key=order)

    @property
    def passed(self) -> bool:
        """Whether there is nothing to look into."""
        return not self.unexplained and not self.outdated

    def _excused(self, outcome: Outcome, known: Mapping[str, str]) -> bool:
        # What is about AKS alone needs no sentence for each number: the evidence says it.
        not_its_cloud = outcome.verdict == "not applicable" and BEHAVIOURS[outcome.number].aks
        return outcome.number in known or not_its_cloud

    def text(self) -> str:
        """Returns the report as Markdown."""
        lines = [
            f"# Conformance of {self.provisioner}",
            "",
            f"Claims: {', '.join(NAMES[kind] for kind in self.kinds)}. {self.summary()}",
            "",
            "| # | behaviour | verdict | evidence | explanation |",
            "|---|---|---|---|---|",
        ]
        group = ""
        for number in sorted({o.number for o in self.outcomes}, key=order):
            item = BEHAVIOURS[number]
            if item.group != group:
                group = item.group
                lines.append(f"| | **{group}** | | | |")
            lines.append(self._row(item))
        return "\n".join([*lines, "", *self._remarks()])

    def _row(self, item: Behaviour) -> str:
        found = [o for o in self.outcomes if o.number == item.number]
        verdicts = {o.verdict for o in found}
        evidence = {o.evidence for o in found}
        together = len(verdicts) == 1
        verdict = next(iter(verdicts)) if together else _each(found, "verdict")
        seen = next(iter(evidence)) if len(evidence) == 1 else _each(found, "evidence")
        why = explanations(self.provisioner).get(item.number, "")
        cells = (item.number, item.title, verdict, seen, why)
        return "| " + " | ".join(_cell(text) for text in cells) + " |"

    def summary(self) -> str:
        """Returns the counts in one sentence."""
        counts = Counter(o.verdict for o in self.outcomes)
        told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
        return f"{len(self.outcomes)} verdicts in {self.seconds:.0f} s: {told}."

    def _remarks(self) -> list[str]:
        lines = [
            f"- Not explained: {o.number} ({NAMES[o.kind]}), {o.verdict}: {_cell(o.evidence)}"
            for o in self.unexplained
        ]
        lines += [
            f"- Explained, but kept: {number}. Take the sentence out of"
            f" explanations/{self.provisioner}.yaml."
            for number in self.outdated
        ]
        return lines or ["Every difference is explained." if self._differs else "All are kept."]

    @property
    def _differs(self) -> bool:
        return any(o.verdict != "kept" for o in self.outcomes)


def _each(outcomes: Sequence[Outcome], attribute: str) -> str:
    parts = [f"{NAMES[o.kind]}: {getattr(o, attribute)}" for o in outcomes]
    return "<br>".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")[:600]
