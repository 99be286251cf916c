"""What pull secrets look like in clusters: every shape that tools write."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from registries import basic

from runtimes.failure import Exit, Failure
from runtimes.oci.credentials import NO_USER, Credential, find
from runtimes.oci.reference import Reference

REFERENCE = Reference.parse("r.example.com:5000/team/adapter:v1")
HUB = Reference.parse("busybox")


def secret(tmp_path: Path, content: Any, name: str = "config.json") -> Path:
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def logins(file: Path, reference: Reference = REFERENCE) -> list[tuple[str, str]]:
    return [(found.username, found.password) for found in find([file], reference)]


@pytest.mark.parametrize(
    "key",
    [
        "r.example.com:5000",
        "http://r.example.com:5000",
        "https://r.example.com:5000",
        "https://r.example.com:5000/v1/",
        "https://r.example.com:5000/v2/",
        "r.example.com:5000/",
        "R.Example.com:5000",
        "r.example.com:5000/team",
        "r.example.com:5000/team/adapter",
        "*.example.com:5000",
    ],
)
def test_keys_that_name_the_registry(key: str, tmp_path: Path) -> None:
    file = secret(tmp_path, {"auths": {key: {"auth": basic("me", "p:w")}}})
    assert logins(file) == [("me", "p:w")]


@pytest.mark.parametrize(
    "key",
    [
        "r.example.com",
        "example.com:5000",
        "r.example.com:5000/tea",
        "r.example.com:5000/team/adapter2",
        "*.com:5000",
        "docker.io",
    ],
)
def test_keys_that_name_another(key: str, tmp_path: Path) -> None:
    assert logins(secret(tmp_path, {"auths": {key: {"auth": basic("me", "p")}}})) == []


@pytest.mark.parametrize(
    "key",
    ["docker.io", "index.docker.io", "registry-1.docker.io", "https://index.docker.io/v1/"],
)
def test_the_names_of_docker_hub(key: str, tmp_path: Path) -> None:
    file = secret(tmp_path, {"auths": {key: {"auth": basic("me", "p")}}})
    assert logins(file, HUB) == [("me", "p")]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({"auth": basic("me", "p")}, {"username": "me", "password": "p"}),
        ({"username": "me", "password": "p"}, {"username": "me", "password": "p"}),
        (
            {"username": "me", "password": "old", "auth": basic("me", "new"), "email": "x@y"},
            {"username": "me", "password": "new"},
        ),
        ({"identitytoken": "t"}, {"identity_token": "t"}),
        (
            {"auth": basic(NO_USER, ""), "identitytoken": "t"},
            {"username": NO_USER, "identity_token": "t"},
        ),
        ({"registrytoken": "t"}, {"registry_token": "t"}),
    ],
)
def test_every_shape_of_an_entry(
    entry: dict[str, str], expected: dict[str, str], tmp_path: Path
) -> None:
    file = secret(tmp_path, {"auths": {REFERENCE.host: entry}})
    assert find([file], REFERENCE) == [Credential(file, REFERENCE.host, **expected)]


def test_the_longest_key_comes_first_then_the_first_file(tmp_path: Path) -> None:
    auths = {
        "r.example.com:5000": {"auth": basic("host", "p")},
        "r.example.com:5000/team": {"auth": basic("team", "p")},
    }
    first = secret(tmp_path, {"auths": auths}, "1.json")
    second = secret(
        tmp_path, {"auths": {"r.example.com:5000": {"auth": basic("b", "p")}}}, "2.json"
    )
    found = find([first, second], REFERENCE)
    assert [credential.username for credential in found] == ["team", "host", "b"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "is not JSON"),
        ("[]", "is not a JSON object"),
        ({"r.example.com:5000": {"auth": basic("a", "b")}}, "has no key 'auths'"),
        ({"auths": []}, "auths is not an object"),
        ({"auths": {REFERENCE.host: "x"}}, "is not an object of texts"),
        ({"auths": {REFERENCE.host: {"auth": 5}}}, "is not an object of texts"),
        ({"auths": {REFERENCE.host: {"auth": "%%%"}}}, "not base64"),
        (
            {"auths": {REFERENCE.host: {"auth": base64.b64encode(b"nocolon").decode()}}},
            "without a colon",
        ),
        ({"auths": {REFERENCE.host: {"username": "me"}}}, "needs both"),
        ({"credHelpers": {REFERENCE.host: "acr-env"}}, "credential helper 'acr-env'"),
        ({"credsStore": "desktop", "auths": {REFERENCE.host: {}}}, "credential store 'desktop'"),
    ],
)
def test_a_secret_that_is_no_use_says_why(content: Any, words: str, tmp_path: Path) -> None:
    file = secret(tmp_path, content)
    with pytest.raises(Failure) as caught:
        find([file], REFERENCE)
    assert caught.value.code == Exit.SETTINGS
    assert str(file) in caught.value.message
    assert words in caught.value.message
    assert "kubectl create secret docker-registry" in caught.value.message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="cannot be read: No such file"):
        find([tmp_path / "none"], REFERENCE)


def test_a_helper_for_another_registry_or_beside_a_login_does_no_harm(tmp_path: Path) -> None:
    other = secret(tmp_path, {"credHelpers": {"gcr.io": "gcloud"}}, "1.json")
    login = secret(
        tmp_path,
        {"credsStore": "desktop", "auths": {REFERENCE.host: {"auth": basic("me", "p")}}},
        "2.json",
    )
    assert [found.username for found in find([other, login], REFERENCE)] == ["me"]


def test_no_secret_is_ever_printed(tmp_path: Path) -> None:
    credential = Credential(
        tmp_path, "k", "me", password="s3cret", identity_token="s3cret", registry_token="s3cret"
    )
    assert "s3cret" not in repr(credential)
    assert "s3cret" not in str(credential)
