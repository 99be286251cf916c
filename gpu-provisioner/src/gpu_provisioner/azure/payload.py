"""Takes an Azure error text apart: the codes in it, outermost first, and the figures it names.

Invariant: nothing here raises or guesses; a text that says nothing yields no codes and no figures.
Azure nests errors as JSON, as `Code="…" Message="…"` inside a message, escaped once per layer, or
as a line that a tool printed. The code that helps is often the innermost one.
"""

import re
from dataclasses import dataclass

_ESCAPED = re.compile(r"\\+([\"'/])")
_ESCAPED_BREAK = re.compile(r"\\+[rn]")
_SPACE = re.compile(r"\s+")

_CODES = re.compile(
    r"""
    ["']?(?:sub)?code["']?\s*[:=]\s*["']?(?P<named>[A-Za-z][A-Za-z0-9_.]{2,})   # "code": "X", Code="X"
    | ^(?:ERROR:\s*)?\((?P<led>[A-Z][A-Za-z0-9_]{2,})\)                         # (X) as the CLI prints it
    | with\ error:\s+(?P<told>[A-Z][A-Za-z0-9_]{2,}):                           # status with error: X:
    | "error"\s*:\s*"(?P<oauth>[a-z_]{5,})"                                     # OAuth 2.0 answers
    | \b(?P<directory>AADSTS\d{4,})\b
    | ^(?P<bare>[A-Z][a-z]+[A-Z]\w+)\s+-\s                                      # X - sentence
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)
_MESSAGE = re.compile(
    r"""
    ["']?(?:message|error_description)["']?\s*[:=]\s*
    (?P<quote>["'])(?P<text>.+?)(?P=quote)
    \s*(?:[,}\]"]|Target|Details|$)
    """,
    re.IGNORECASE | re.DOTALL | re.VERBOSE,
)
_NOT_PROSE = re.compile(r"^\s*(?:[\[{]|rpc error|Code=)")
_EXPLAINED = re.compile(r"^(?:ERROR:\s*)?\(\w+\)\s*(?P<text>[^\n]+)")

_QUOTA = re.compile(
    r"exceeding approved (?P<family>.+?)(?: Cores)? quota.*?Location: (?P<region>[\w-]+), "
    r"Current Limit: (?P<limit>\d+), Current Usage: (?P<used>\d+), "
    r"Additional Required: (?P<needed>\d+), \(Minimum\) New Limit Required: (?P<new_limit>\d+)",
    re.IGNORECASE,
)
_QUOTA_FAMILY = re.compile(
    r"quota requested (?P<needed>\d+), remaining (?P<remaining>\d+) for family (?P<family>\w+) "
    r"for region (?P<region>[\w-]+)",
    re.IGNORECASE,
)
_QUOTA_REGION = re.compile(
    r"quota left for location (?P<region>[\w-]+)\. left regional vcpu quota (?P<remaining>\d+), "
    r"requested quota (?P<needed>\d+)",
    re.IGNORECASE,
)
_SKU = re.compile(r"\b(?P<sku>Standard_[A-Z][A-Za-z0-9_]*[a-z0-9])\b")
_REGION = re.compile(r"in location '(?P<region>[\w-]+)'|for location (?P<other>[\w-]+) are")
_RETRY = re.compile(r"retry (?:again )?(?:in|after) (?P<seconds>\d+) seconds", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Facts:
    """The figures that an error text names; None or "" where it names none.

    Attributes:
        family: quota family, such as "standardNCSv3Family", "Total Regional" or "LowPriorityCores".
        region: Azure region, such as "westeurope".
        sku: VM size.
        limit: the quota, in vCPUs.
        used: vCPUs in use.
        needed: vCPUs asked for on top.
        remaining: vCPUs left, where limit and use are not told.
        new_limit: the least limit that would do.
        retry_after: seconds.
    """

    family: str = ""
    region: str = ""
    sku: str = ""
    limit: int | None = None
    used: int | None = None
    needed: int | None = None
    remaining: int | None = None
    new_limit: int | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """An error text, taken apart.

    Attributes:
        text: the whole text on one line, escapes removed.
        codes: every code in it, in the order of appearance, which is outermost first.
        message: the innermost sentence meant for a person.
        facts: the figures in it.
    """

    text: str
    codes: tuple[str, ...]
    message: str
    facts: Facts


def parse(body: str) -> Payload:
    """Takes apart a response body, a provisioning error or any text that quotes one."""
    text = _ESCAPED.sub(r"\1", body)
    codes = tuple(
        dict.fromkeys(
            next(group for group in found.groups() if group) for found in _CODES.finditer(text)
        )
    )
    line = _SPACE.sub(" ", _ESCAPED_BREAK.sub(" ", text)).strip()
    return Payload(line, codes, _sentence(text, line), _facts(line))


def _sentence(text: str, line: str) -> str:
    messages: list[str] = []
    at = 0
    # A message may quote another one: each search starts inside the last find.
    while found := _MESSAGE.search(text, at):
        messages.append(found["text"])
        at = found.start("text")
    prose = [message for message in messages if not _NOT_PROSE.match(message)]
    explained = _EXPLAINED.search(text)
    if prose:
        line = prose[-1]
    elif explained:
        line = explained["text"]
    return _SPACE.sub(" ", _ESCAPED_BREAK.sub(" ", line)).strip()


def _facts(line: str) -> Facts:
    quota = _QUOTA.search(line) or _QUOTA_FAMILY.search(line) or _QUOTA_REGION.search(line)
    named = quota.groupdict() if quota else {}
    sku, region, retry = _SKU.search(line), _REGION.search(line), _RETRY.search(line)

    def number(name: str) -> int | None:
        return int(named[name]) if name in named else None

    return Facts(
        family=named.get("family", ""),
        region=named.get("region", "") or (region["region"] or region["other"] if region else ""),
        sku=sku["sku"] if sku else "",
        limit=number("limit"),
        used=number("used"),
        needed=number("needed"),
        remaining=number("remaining"),
        new_limit=number("new_limit"),
        retry_after=int(retry["seconds"]) if retry else None,
    )
