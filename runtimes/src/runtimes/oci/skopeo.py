"""Run the program skopeo, and turn what it says into a reason that a person can act on.

It gets no more than one credential, in a file that only it can read and that is gone when it ends; it ends
with us, and at the latest at its deadline.
"""

import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from runtimes.failure import Exit, Failure
from runtimes.oci.credentials import Credential
from runtimes.oci.reference import Reference

RETRIES = 3  # of what a registry or a network may get over, with growing pauses
HEARTBEAT_SECONDS = 5.0
END_SECONDS = 5.0


class NotAllowed(Failure):
    """The registry does not accept this login; another one may do."""


@dataclass(frozen=True)
class Call:
    """What every run of skopeo needs to know.

    `folder` is for its temporary files; `side` is `src`, `dest`, or empty for verbs with one image;
    `max_file_bytes` bounds each file that it writes.
    """

    reference: Reference
    credential: Credential | None
    insecure: bool
    folder: Path
    side: str = ""
    seconds: float = 3600.0
    max_file_bytes: int | None = None

    def flags(self) -> list[str]:
        """How to reach the registry, and as whom."""
        prefix = f"--{self.side}-" if self.side else "--"
        flags = [f"{prefix}tls-verify={'false' if self.insecure else 'true'}"]
        if self.credential is None:
            return [*flags, f"{prefix}no-creds"]
        if self.credential.registry_token:
            # skopeo takes this one in no other way; no one else sees a container's command lines.
            return [*flags, f"{prefix}registry-token={self.credential.registry_token}"]
        file = self.folder / "auth.json"
        file.touch(mode=0o600)
        file.write_text(self.credential.auth_file(self.reference.host))
        option = f"--{self.side}-authfile" if self.side else "--authfile"
        return [*flags, f"{option}={file}"]


def retries() -> str:
    """The flag of every verb that talks to a registry."""
    return f"--retry-times={RETRIES}"


def run(
    call: Call, verb: str, *arguments: str, progress: Callable[[float], None] | None = None
) -> bytes:
    """What skopeo prints; `progress` is told the seconds that have passed, every 5 s.

    It works in the call's folder, which is where relative paths in `arguments` begin.

    Raises `NotAllowed` for a login that is refused, `Failure` for all else.
    """
    program = shutil.which("skopeo")
    if program is None:
        raise Failure(
            Exit.UNEXPECTED,
            "the program skopeo is not installed: use the runtime's image, or install the package skopeo",
        )
    command = [program, "--insecure-policy", f"--tmpdir={call.folder}", verb]
    command += [*call.flags(), *arguments]
    started = time.monotonic()
    with subprocess.Popen(  # noqa: S603  (a fixed program; arguments are no shell words)
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=call.folder,
    ) as process:
        try:
            if call.max_file_bytes is not None:
                limit = (call.max_file_bytes, call.max_file_bytes)
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, limit)
            printed, said = _wait(process, started, call, progress)
        except BaseException:
            _end(process)
            raise
    if process.returncode == 0:
        return printed
    if process.returncode == -signal.SIGXFSZ:
        said = b"file too large"
    raise explain(said.decode(errors="replace"), call)


def _wait(
    process: subprocess.Popen[bytes],
    started: float,
    call: Call,
    progress: Callable[[float], None] | None,
) -> tuple[bytes, bytes]:
    while True:
        try:
            left = call.seconds - (time.monotonic() - started)
            return process.communicate(timeout=max(0.0, min(HEARTBEAT_SECONDS, left)))
        except subprocess.TimeoutExpired:
            passed = time.monotonic() - started
            if passed >= call.seconds:
                raise Failure(
                    Exit.REGISTRY,
                    f"{call.reference}: no end after {passed:.0f} s; the network or the registry is "
                    "too slow: raise --timeout or look there",
                ) from None
            if progress is not None:
                progress(passed)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()


@dataclass(frozen=True)
class _Meaning:
    """What skopeo's words stand for."""

    words: re.Pattern[str]
    text: str
    code: Exit = Exit.REGISTRY
    kind: type[Failure] = Failure


def _means(words: str, text: str, code: Exit = Exit.REGISTRY) -> _Meaning:
    return _Meaning(re.compile(words, re.IGNORECASE), text, code)


_REFUSED = _Meaning(
    re.compile(
        "unauthorized|authentication required|access denied|denied:|status 40[13]|forbidden"
        r"|40[13] \(|status code 40[13]|invalid username/password",
        re.IGNORECASE,
    ),
    "the registry does not let us: {login}",
    kind=NotAllowed,
)
# The first that is found decides.
_MEANINGS = (
    _REFUSED,
    _means(
        "manifest unknown|name unknown|not found|404",
        "the registry has no such image: check the name and the tag",
    ),
    _means(
        "HTTP response to HTTPS client",
        "the registry speaks plain HTTP: if you trust the way to it, add --insecure-registry={host}",
    ),
    _means(
        "x509|certificate",
        "the registry's certificate is not trusted here: add its authority to the file that "
        "SSL_CERT_FILE names",
    ),
    _means("no space left|quota exceeded", "the disk is full", Exit.UNEXPECTED),
    _means("file too large", "it is larger than it says, or than --max-bytes allows", Exit.DATA),
    _means(
        "no such host|refused|timeout|unreachable|connection reset|EOF",
        "the registry cannot be reached: check the host, its port and the network",
    ),
)


def explain(said: str, call: Call) -> Failure:
    """The reason behind skopeo's last words."""
    words = fatal_message(said)
    for meaning in _MEANINGS:
        if meaning.words.search(words):
            text = meaning.text.format(login=_login(call), host=call.reference.host)
            return meaning.kind(meaning.code, f"{call.reference}: {text} ({words})")
    return Failure(Exit.REGISTRY, f"{call.reference}: {words}")


def fatal_message(said: str) -> str:
    """The text of the last fatal log line, or the last line, in at most 300 characters."""
    lines = said.strip().splitlines() or ["skopeo ended without a word"]
    found = re.search(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"', lines[-1])
    text = found[1].replace('\\"', '"') if found else lines[-1]
    return " ".join(text.split())[-300:]


def _login(call: Call) -> str:
    if call.credential is None:
        return "no secret has a login for it; name one with --docker-config"
    user = f"user {call.credential.username!r}" if call.credential.username else "a token"
    return (
        f"the login of {call.credential.source} ({user}) is refused, or may not do this; "
        "check the user, the password and the rights"
    )
