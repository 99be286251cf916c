"""What the files of image pull secrets say about one registry.

Nothing here prints a secret, and what is handed to skopeo holds the one credential that is used.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from runtimes.failure import Exit, Failure
from runtimes.oci.reference import DOCKER_HUB, DOCKER_HUB_NAMES, Reference

# The user that goes with a token; registries look at the token alone.
NO_USER = "00000000-0000-0000-0000-000000000000"
REMEDY = (
    "make it with `kubectl create secret docker-registry NAME --docker-server=HOST "
    "--docker-username=USER --docker-password=PASSWORD`"
)


@dataclass(frozen=True)
class Credential:
    """One way to log in; exactly one of password, identity token and registry token is set."""

    source: Path
    key: str
    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def auth_file(self, host: str) -> str:
        """The content of an authentication file that says this about `host` and no more."""
        user = self.username or NO_USER
        entry = {"auth": base64.b64encode(f"{user}:{self.password}".encode()).decode()}
        if self.identity_token:
            entry["identitytoken"] = self.identity_token
        return json.dumps({"auths": {host: entry}})


def find(files: Sequence[Path], reference: Reference) -> list[Credential]:
    """The credentials for this image's registry, the best match first, then in the files' order.

    `Failure` if a file cannot be read, or if all that it has for this registry is the name of a
    helper program.
    """
    found: list[tuple[int, Credential]] = []
    helpers: list[str] = []
    for file in files:
        content = _read(file)
        for key, entry in content["auths"].items():
            length = _match(key, reference)
            if length and (credential := _credential(file, key, entry)):
                found.append((length, credential))
        helpers += _helpers(file, content, reference)
    if helpers and not found:
        raise Failure(
            Exit.SETTINGS,
            f"{helpers[0]} for {reference.host}, and a pod has no such program: "
            f"the secret must hold the login itself; {REMEDY}",
        )
    found.sort(key=lambda item: -item[0])
    return [credential for _, credential in found]


def canonical_key(key: str) -> str:
    """A key of `auths` without what different tools put around the host: scheme, /v1/, aliases."""
    bare = key.strip().removeprefix("https://").removeprefix("http://").rstrip("/")
    for version in ("/v1", "/v2"):
        bare = bare.removesuffix(version)
    host, slash, path = bare.partition("/")
    return f"{DOCKER_HUB if host in DOCKER_HUB_NAMES else host}{slash}{path}"


def _match(key: str, reference: Reference) -> int:
    """How much of the reference the key names, in characters; 0: another registry or path.

    As in a kubelet, `*` stands for one part of a host's name.
    """
    host, _, path = canonical_key(key).partition("/")
    patterns, labels = host.lower().split("."), reference.host.lower().split(".")
    if len(patterns) != len(labels) or not all(map(fnmatchcase, labels, patterns)):
        return 0
    if path and not f"{reference.name}/".startswith(f"{path}/"):
        return 0
    return len(host.replace("*", "")) + len(path) + 1


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise Failure(
            Exit.SETTINGS, f"--docker-config {file} cannot be read: {error.strerror}"
        ) from error
    except ValueError as error:
        raise Failure(
            Exit.SETTINGS, f"--docker-config {file} is not JSON ({error}); {REMEDY}"
        ) from error
    if not isinstance(content, dict):
        raise Failure(Exit.SETTINGS, f"--docker-config {file} is not a JSON object; {REMEDY}")
    known = {"auths", "credHelpers", "credsStore"}
    if content and not known & content.keys():
        raise Failure(Exit.SETTINGS, f"--docker-config {file} has no key 'auths'; {REMEDY}")
    for name in ("auths", "credHelpers"):
        if not isinstance(content.setdefault(name, {}), dict):
            raise Failure(
                Exit.SETTINGS, f"--docker-config {file}: {name} is not an object; {REMEDY}"
            )
    return content


def _credential(file: Path, key: str, entry: Any) -> Credential | None:
    """None for an empty entry: tools leave one where a helper holds the login."""
    if not isinstance(entry, dict) or not all(
        isinstance(value, str) for name, value in entry.items() if name in _FIELDS
    ):
        raise _bad_entry(file, key, "is not an object of texts")
    given = {name: entry.get(name, "") for name in _FIELDS}
    username, password = given["username"], given["password"]
    if given["auth"]:
        username, password = _decode(file, key, given["auth"])
    if given["registrytoken"]:
        return Credential(file, key, username, registry_token=given["registrytoken"])
    if given["identitytoken"]:
        return Credential(file, key, username, identity_token=given["identitytoken"])
    if username and password:
        return Credential(file, key, username, password)
    if any(given.values()):
        raise _bad_entry(file, key, "has a user name or a password, and needs both")
    return None


_FIELDS = ("auth", "username", "password", "identitytoken", "registrytoken")


def _decode(file: Path, key: str, auth: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(auth, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _bad_entry(file, key, "has an 'auth' that is not base64 of USER:PASSWORD") from error
    username, colon, password = text.partition(":")
    if not colon:
        raise _bad_entry(file, key, "has an 'auth' without a colon between user and password")
    return username, password.strip("\0")


def _bad_entry(file: Path, key: str, what: str) -> Failure:
    return Failure(Exit.SETTINGS, f"--docker-config {file}: the entry {key!r} {what}; {REMEDY}")


def _helpers(file: Path, content: dict[str, Any], reference: Reference) -> Iterable[str]:
    for key, helper in content["credHelpers"].items():
        if _match(key, reference):
            yield f"--docker-config {file} names the credential helper {helper!r}"
    if store := content.get("credsStore"):
        yield f"--docker-config {file} names the credential store {store!r}"
