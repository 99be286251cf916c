"""Find a model's weights in a folder, or bring them there from a model hub.

A revision becomes a commit before the first byte is fetched, so what is served can be named exactly; only
weights that cannot run code are fetched; and a folder counts as complete only by the note that is written last.
"""

import json
import re
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import structlog
from filelock import FileLock, Timeout
from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.tqdm import disable_progress_bars

from runtimes.failure import Exit, StartupFailure

HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w.-]+)?")
COMMIT = re.compile(r"[0-9a-f]{40}")
COMPLETE = "download.json"
# Pickled weights (*.bin, *.pt) and *.py can run code: they are neither needed nor wanted.
WANTED_SUFFIXES = (".safetensors", ".json", ".jinja", ".model")
WANTED_NAMES = ("merges.txt", "vocab.txt")
# The hub client repeats each call by itself, for about 20 s; these come on top, for longer outages.
PAUSES = (2.0, 8.0, 30.0)
OTHER_DOWNLOAD_SECONDS = 2 * 3600.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Source:
    """Where weights come from; the names are those of the flags."""

    pretrained_model_name_or_path: str
    revision: str
    allow_remote_files: bool
    download_dir: Path
    hub_token_file: Path | None = None
    endpoint: str = constants.ENDPOINT  # HF_ENDPOINT, or the public hub


@dataclass(frozen=True)
class Weights:
    """A folder with a model, and the commit it was fetched at (empty for a folder of one's own)."""

    folder: Path
    commit: str = ""


@dataclass(frozen=True)
class Plan:
    """What is about to be fetched: file names with their sizes in bytes."""

    model: str
    commit: str
    folder: Path
    files: Mapping[str, int]

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(self.files.values())

    def arrived(self) -> int:
        """Bytes that are on disk already, those of unfinished files included."""
        paths = [self.folder / name for name in self.files]
        return sum(_bytes_on_disk(path) for path in (*paths, *_unfinished(self.folder)))


def find(source: Source, announce: Callable[[Plan], None]) -> Weights:
    """The folder to load from, after a download if there has to be one; blocks while it lasts.

    `announce` is told what will be fetched before the first byte, and is not called if nothing is.
    Raises `StartupFailure`.
    """
    name = source.pretrained_model_name_or_path
    if Path(name).is_dir():
        return Weights(Path(name))
    if not HUB_ID.fullmatch(name):
        raise StartupFailure(
            Exit.SETTINGS,
            f"--pretrained_model_name_or_path {name} is neither a folder nor a model id like org/name",
        )
    if not source.allow_remote_files:
        raise StartupFailure(
            Exit.SETTINGS,
            f"--pretrained_model_name_or_path {name} is no folder here; "
            "to download it from the model hub, add --allow_remote_files",
        )
    disable_progress_bars()
    return _with_patience(lambda: _download(source, announce), source)


def _with_patience(attempt: Callable[[], Weights], source: Source) -> Weights:
    """Repeat after what a hub or a network may get over; finished files are kept in between."""
    for pause in (*PAUSES, None):
        try:
            return attempt()
        except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
            raise _not_given(source, error) from error
        except (httpx2.TransportError, OSError) as error:
            if pause is None or _is_final(error):
                raise _failed(source, error) from error
            log.warning("the download was interrupted", error=_line(error), again_in_s=pause)
            time.sleep(pause)
    raise AssertionError("the last pause is None")


def _download(source: Source, announce: Callable[[Plan], None]) -> Weights:
    model = source.pretrained_model_name_or_path
    token = _token(source.hub_token_file)
    api = HfApi(endpoint=source.endpoint, token=token)
    commit = source.revision
    if not COMMIT.fullmatch(commit):
        commit = str(api.model_info(model, revision=commit).sha)
    folder = source.download_dir / model.replace("/", "--") / commit
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock", timeout=OTHER_DOWNLOAD_SECONDS):
            if not _is_complete(folder):
                plan = _plan(api, model, commit, folder)
                announce(plan)
                _fetch(plan, source.endpoint, token)
    except Timeout as error:
        raise StartupFailure(
            Exit.WEIGHTS, f"another process has held {error.lock_file} for too long"
        ) from error
    return Weights(folder, commit)


def _plan(api: HfApi, model: str, commit: str, folder: Path) -> Plan:
    listed = api.list_repo_tree(model, revision=commit)
    files = select({item.path: item.size for item in listed if isinstance(item, RepoFile)})
    if not any(name.endswith(".safetensors") for name in files):
        raise StartupFailure(
            Exit.WEIGHTS,
            f"{model}@{commit} has no *.safetensors weights; other formats can run code "
            "and are not loaded: choose another --revision",
        )
    return Plan(model, commit, folder, files)


def select(listed: Mapping[str, int]) -> dict[str, int]:
    """What serving needs of a repository's files, names to sizes."""
    wanted = {
        name: size
        for name, size in listed.items()
        if "/" not in name and (name.endswith(WANTED_SUFFIXES) or name in WANTED_NAMES)
    }
    # Some repositories hold the weights twice: split for transformers, and in one "consolidated" set.
    split = [name for name in wanted if name.startswith("model") and name.endswith(".safetensors")]
    return {
        name: size
        for name, size in wanted.items()
        if not (split and name.startswith("consolidated"))
    }


def _fetch(plan: Plan, endpoint: str, token: str | None) -> None:
    for leftover in _unfinished(plan.folder):
        leftover.unlink()  # a killed process leaves its unfinished files, and none can be taken up
    for name, size in plan.files.items():
        if (damaged := plan.folder / name).exists() and damaged.stat().st_size != size:
            damaged.unlink()
    missing = plan.total - plan.arrived()
    free = shutil.disk_usage(plan.folder).free
    if missing > free:
        raise StartupFailure(
            Exit.WEIGHTS,
            f"{plan.model} needs {_gib(missing)} more in {plan.folder}, which has {_gib(free)} "
            "free: give the node or the volume a larger disk",
        )
    snapshot_download(
        plan.model,
        revision=plan.commit,
        local_dir=plan.folder,
        allow_patterns=list(plan.files),
        endpoint=endpoint,
        token=token,
    )
    for name, size in plan.files.items():
        found = (plan.folder / name).stat().st_size
        if found != size:
            raise StartupFailure(
                Exit.WEIGHTS,
                f"{plan.folder / name} has {found} bytes, but the hub lists {size}: "
                "delete the folder and start again",
            )
    note = {"model": plan.model, "commit": plan.commit, "files": dict(plan.files)}
    written = plan.folder / f"{COMPLETE}.new"
    written.write_text(json.dumps(note, indent=2))
    written.replace(plan.folder / COMPLETE)


def _is_complete(folder: Path) -> bool:
    try:
        files = json.loads((folder / COMPLETE).read_bytes())["files"]
        return all((folder / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError):
        return False


def _unfinished(folder: Path) -> Iterable[Path]:
    return (folder / ".cache" / "huggingface" / "download").glob("*.incomplete")


def _bytes_on_disk(path: Path) -> int:
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0  # not there yet, or just moved to its place
    return min(found.st_size, found.st_blocks * 512)  # a sparse file is longer than what arrived


def _token(path: Path | None) -> str | None:
    """None leaves it to the hub client, which knows its own variables and files."""
    if path is None:
        return None
    try:
        return path.read_text().strip() or None
    except OSError as error:
        raise StartupFailure(
            Exit.SETTINGS, f"--hub_token_file {path} cannot be read: {error.strerror}"
        ) from error


def _is_final(error: httpx2.TransportError | OSError) -> bool:
    if isinstance(error, HfHubHTTPError):
        status: int = error.response.status_code
        return status < 500 and status not in {408, 429}
    # The hub client raises OSError without an errno for what a network did, the system with one.
    return isinstance(error, OSError) and error.errno is not None


def _not_given(source: Source, error: HfHubHTTPError) -> StartupFailure:
    model = source.pretrained_model_name_or_path
    if isinstance(error, RevisionNotFoundError):
        text = f"model {model} has no revision {source.revision}: change --revision"
    else:
        text = (
            f"the model hub at {source.endpoint} does not give us {model}: check the id, "
            "and if access is restricted, accept its terms and name a token with --hub_token_file"
        )
    return StartupFailure(Exit.WEIGHTS, text)


def _failed(source: Source, error: httpx2.TransportError | OSError) -> StartupFailure:
    if isinstance(error, HfHubHTTPError) and error.response.status_code in {401, 403}:
        return _not_given(source, error)
    if isinstance(error, OSError) and error.errno is not None:
        return StartupFailure(
            Exit.WEIGHTS, f"--download_dir {source.download_dir} cannot take the model: {error}"
        )
    return StartupFailure(
        Exit.WEIGHTS,
        f"{source.pretrained_model_name_or_path} cannot be downloaded from {source.endpoint}: "
        f"{_line(error)}; check the network and HF_ENDPOINT",
    )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"
