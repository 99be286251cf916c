"""Finds the Kubernetes programs of the sandbox, or builds them with Go.

A folder that this module returns is complete: it is made under another name and renamed, and
a lock keeps two callers from building the same thing twice.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from sandbox.errors import SandboxError

CONTROL_PLANE = ("etcd", "kube-apiserver", "kubectl")
"""What a bare API server for tests needs; envtest archives hold exactly these."""

PROGRAMS = (
    *CONTROL_PLANE,
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "helm",
    "kwok",
)
"""Everything that one build makes, `pause` aside."""

SOURCES = Path(__file__).resolve().parent.parent / "controlplane"
SOURCE_FILES = ("go.mod", "go.sum", "main.go", "pause/main.go")

KUBERNETES = "v1.36.3"
_VERSION_PACKAGE = "k8s.io/component-base/version"
_MAJOR, _MINOR = KUBERNETES.removeprefix("v").split(".")[:2]
# Without a version in the binary, clients see v0.0.0 and refuse features.
_VERSION_FLAGS = (
    f"-X {_VERSION_PACKAGE}.gitVersion={KUBERNETES}"
    f" -X {_VERSION_PACKAGE}.gitMajor={_MAJOR} -X {_VERSION_PACKAGE}.gitMinor={_MINOR}"
)
BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-ldflags", f"-s -w {_VERSION_FLAGS}")
BUILD_MINUTES = "5 to 10 minutes on 2 cores; seconds where Go still has its build cache"


class ToolsError(SandboxError):
    """The programs are missing and could not be built; the text says what to do."""


def binaries(needed: Iterable[str] = PROGRAMS) -> Path:
    """Returns a folder that holds the `needed` programs, building them when nothing else has them.

    Looks in KUBEBUILDER_ASSETS, then in the cache folder; a build prints its progress to stderr.
    Blocks for minutes when it builds, so call it from a thread in asynchronous code.

    Raises:
        ToolsError: Go is missing or too old, or the build failed.
    """
    wanted = tuple(needed)
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and _holds(Path(assets), wanted):
        return Path(assets)
    folder = cache_folder() / f"bin-{_fingerprint()}"
    if not _holds(folder, wanted):
        _build_once(folder)
    return folder


def available() -> bool:
    """Says whether the programs are there or could be built."""
    built = cache_folder() / f"bin-{_fingerprint()}"
    return _holds(built, PROGRAMS) or shutil.which("go") is not None


def cache_folder() -> Path:
    """Returns the folder for what is costly to make and safe to delete."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "gpu-workspaces"


def _holds(folder: Path, names: Iterable[str]) -> bool:
    return all(os.access(folder / name, os.X_OK) for name in names)


def _fingerprint() -> str:
    digest = hashlib.sha256("\0".join(BUILD_FLAGS).encode())
    for name in SOURCE_FILES:
        digest.update((SOURCES / name).read_bytes())
    return digest.hexdigest()[:12]


def _build_once(folder: Path) -> None:
    build_once(folder, PROGRAMS, _build)


def build_once(folder: Path, names: Iterable[str], build: Callable[[Path], None]) -> None:
    """Has `build` fill a folder of the cache with these programs, unless they are there.

    Raises:
        ToolsError: it could not.
    """
    wanted = tuple(names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock")):
        if _holds(folder, wanted):
            return  # another process built it while we waited
        unfinished = folder.with_name(f"{folder.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        unfinished.mkdir()
        build(unfinished)
        unfinished.rename(folder)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is building the Kubernetes programs; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(folder: Path) -> None:
    go = go_program(f"or set KUBEBUILDER_ASSETS to a folder that holds {', '.join(PROGRAMS)}")
    say(f"building Kubernetes {KUBERNETES}, etcd, helm and kwok with Go, once: {BUILD_MINUTES}")
    _go_build(go, ".", folder / "kube", folder)
    _go_build(go, "./pause", folder / "pause", folder)
    for name in PROGRAMS:
        (folder / name).symlink_to("kube")
    say(f"built {', '.join(PROGRAMS)} into {folder.with_suffix('')}")


def _go_build(go: str, package: str, output: Path, folder: Path) -> None:
    """Compiles one Go main package of ours to a static program."""
    # -v names each package as it is compiled, which is all the progress that Go offers.
    command = [go, "build", "-v", *BUILD_FLAGS, "-o", str(output), package]
    run_go(command, SOURCES, folder / "build.log", {"CGO_ENABLED": "0"})


def go_program(otherwise: str = "") -> str:
    """Returns the Go program.

    Raises:
        ToolsError: there is none; the text ends with what else would do.
    """
    go = shutil.which("go")
    if go is None:
        raise ToolsError(
            "The sandbox builds its Go programs itself, and `go` is not on PATH. Install Go >= 1.26"
            f" (https://go.dev/dl){otherwise and ', '}{otherwise}"
        )
    return go


def run_go(command: list[str], folder: Path, log: Path, env: Mapping[str, str]) -> None:
    """Runs a build in `folder`, telling how far it is every 10 s.

    Raises:
        ToolsError: it failed; the text ends with the end of its log.
    """
    with log.open("w") as sink:
        started = time.monotonic()
        with subprocess.Popen(
            command, cwd=folder, env=os.environ | env, stdout=sink, stderr=sink, text=True
        ) as build:
            try:
                while _still_runs(build, seconds=10):
                    say(f"  {time.monotonic() - started:4.0f} s: {_progress(log)}")
            except BaseException:
                build.kill()
                raise
    if build.returncode != 0:
        tail = "\n".join(log.read_text().splitlines()[-20:])
        raise ToolsError(
            f"`{' '.join(command)}` in {folder} failed with status {build.returncode}:\n{tail}"
        )


def _still_runs(build: subprocess.Popen[str], seconds: float) -> bool:
    try:
        build.wait(seconds)
    except subprocess.TimeoutExpired:
        return True
    return False


def _progress(log: Path) -> str:
    lines = log.read_text().splitlines()
    compiled = [line for line in lines if not line.startswith("go: ")]
    if compiled:
        return f"{len(compiled)} packages compiled, now {compiled[-1]}"
    return lines[-1] if lines else "reading the modules, or linking"


def say(text: str) -> None:
    """Tells whoever waits how far a build is."""
    print(text, file=sys.stderr, flush=True)
