"""Sound, nearly sound and wild Workspaces."""

import copy
from typing import Any

from admission_cases import BROKEN, SOUND, WARNED, manifest
from hypothesis import strategies as st

Manifest = dict[str, Any]

TEXT = st.text(st.characters(codec="utf-8"), max_size=70)
ODD = st.sampled_from(
    [
        *("", " ", "a", "A", "-", "0", "1.0", "0.5", "1e-1", "nan", "lora", "QLoRA", "private"),
        *("falcon-7b", "Standard_NC6s_v3", "Standard_NC24ads_A100_v4", "NC6", "In", "NotIn"),
        *("http://localhost/a", "http://[::1", "https://example.com", "example.com/a:b@c"),
        *("registry.example.com/a:v1", "kaito.sh/workspace", "a\u0000b", "\U0001f600", "a" * 300),
    ]
)
SCALARS = st.one_of(
    TEXT, ODD, st.booleans(), st.integers(-3, 2000), st.integers(), st.none(), st.just(0.5)
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.one_of(ODD, TEXT), inner, max_size=4)
    ),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        *("name", "preset", "template", "adapters", "config", "image", "urls", "volumeSource"),
        *("imagePullSecrets", "imagePushSecret", "strength", "source", "workspace", "method"),
        *("input", "output", "count", "instanceType", "labelSelector", "matchLabels", "values"),
        *(
            "matchExpressions",
            "key",
            "operator",
            "accessMode",
            "presetOptions",
            "spec",
            "partition",
        ),
    ]
)
# What needs a ConfigMap is told apart elsewhere; the fuzz has none.
BASES = [
    *(3 * list(SOUND.values())),
    *(case.facts for case in BROKEN.values() if case.config is None and not case.knows),
    *(facts for _, facts, _ in WARNED.values()),
]


@st.composite
def workspaces(draw: st.DrawFn) -> Manifest:
    """A sound or broken Workspace with up to three changes at random places, or pure noise."""
    if draw(st.integers(0, 19)) == 0:
        parts = draw(st.dictionaries(st.sampled_from(["resource", "inference", "tuning"]), JSON))
        return {"metadata": {"name": "w"}} | parts
    found = copy.deepcopy(manifest(**draw(st.sampled_from(BASES))))
    return _changed(draw, found, draw(st.sampled_from([0, 1, 1, 1, 2, 3])))


@st.composite
def edits(draw: st.DrawFn) -> tuple[int, Manifest]:
    """Which of the sound Workspaces to edit, and what it is to become."""
    which = draw(st.integers(0, len(SOUND) - 1))
    found = copy.deepcopy(manifest(**list(SOUND.values())[which]))
    if draw(st.integers(0, 9)) == 0:
        found = copy.deepcopy(manifest(**draw(st.sampled_from(BASES))))
    return which, _changed(draw, found, draw(st.sampled_from([0, 1, 1, 2])))


def _changed(draw: st.DrawFn, found: Manifest, times: int) -> Manifest:
    for _ in range(times):
        _change(draw, found)
    _without_config(found)
    return found


def _change(draw: st.DrawFn, found: Manifest) -> None:
    """Replaces, removes, repeats or adds something below resource, inference or tuning."""
    places = [
        place
        for part in ("resource", "inference", "tuning")
        if part in found
        for place in [(found, part), *_places(found[part])]
    ]
    if not places:
        found["resource"] = draw(JSON)
        return
    leaves = [place for place in places if not isinstance(place[0][place[1]], dict | list)]
    chosen = leaves if leaves and draw(st.sampled_from([True, True, True, False])) else places
    holder, key = draw(st.sampled_from(chosen))
    match draw(st.sampled_from(["odd", "odd", "odd", "replace", "remove", "repeat", "add"])):
        case "replace":
            holder[key] = draw(JSON)
        case "odd":
            holder[key] = draw(ODD)
        case "remove":
            del holder[key]
        case "repeat" if isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        case _ if isinstance(holder, dict) and holder is not found:
            holder[draw(KEYS)] = draw(JSON)
        case _:
            holder[key] = draw(ODD)


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every place in a JSON value, as what holds it and its key."""
    keys = (
        value.keys()
        if isinstance(value, dict)
        else range(len(value))
        if isinstance(value, list)
        else ()
    )
    return [place for key in list(keys) for place in [(value, key), *_places(value[key])]]


def _without_config(found: Manifest) -> None:
    for part in ("inference", "tuning"):
        if isinstance(found.get(part), dict):
            found[part].pop("config", None)
