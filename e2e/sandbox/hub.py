"""A read-only model hub that speaks the Hugging Face API and answers every model id with one folder.

Pods of the sandbox download from it as they would from the real hub: revisions, listings, ETags, ranges and
refusals have the real shapes. It never claims more than it has: the log, a header of every answer and the
model card say which model stands in for all. With `--dataset` one file stands in for those of all datasets.
"""

import argparse
import contextlib
import hashlib
import hmac
import logging
import re
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MODEL_ID = r"(?P<model>[\w][\w.-]*(?:/[\w][\w.-]*)?)"
INFO_PATH = re.compile(rf"{MODEL_ID}(?:/revision/(?P<revision>[^/]+))?")
TREE_PATH = re.compile(rf"{MODEL_ID}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.+))?")
DATASET_PATH = re.compile(
    r"datasets/(?P<dataset>[\w][\w.-]*/[\w][\w.-]*)/resolve/(?P<revision>[^/]+)/(?P<file>.+)"
)
FILE_PATH = re.compile(rf"{MODEL_ID}/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
COMMIT = re.compile(r"[0-9a-f]{40}")
STAND_IN = "X-Sandbox-Model"
# The real hub keeps weights in large-file storage, known by SHA-256; the rest are git blobs.
LARGE_FILES = (".safetensors", ".bin", ".model")
BUILD_SECONDS = 180

log = logging.getLogger("sandbox.hub")


class HubError(Exception):
    """The hub cannot start; the text says what to change."""


@dataclass(frozen=True)
class StoredFile:
    """One file of the folder; `digest` is a SHA-256 if it is large, else a git blob id."""

    path: Path
    size: int
    digest: str
    large: bool

    def listing(self) -> dict[str, object]:
        """The file as the tree API shows it."""
        entry: dict[str, object] = {
            "type": "file",
            "path": self.path.name,
            "size": self.size,
            "oid": self.digest[:40],
        }
        if self.large:
            entry["lfs"] = {"oid": self.digest, "size": self.size, "pointerSize": 134}
        return entry


@dataclass(frozen=True)
class Folder:
    """The model that stands in for all; read once, so it must not change while it is served."""

    path: Path
    files: Mapping[str, StoredFile]
    commit: str

    @classmethod
    def read(cls, path: Path) -> "Folder":
        """Hash the folder's files; `HubError` if it holds no model."""
        if not (path / "config.json").is_file():
            raise HubError(
                f"--folder {path} holds no model (no config.json): "
                "make one with `python -m runtimes.tiny FOLDER`, or name a Python "
                "that has the runtimes with --build-with"
            )
        files = {file.name: _stored(file) for file in sorted(path.iterdir()) if file.is_file()}
        identity = "\n".join(f"{name} {file.digest}" for name, file in files.items())
        return cls(
            path=path,
            files=files,
            commit=hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest(),
        )

    def resolve(self, revision: str) -> str | None:
        """The commit behind a revision: `main` is ours, and any full commit stands for itself."""
        if revision == "main":
            return self.commit
        return revision if COMMIT.fullmatch(revision) else None


def _stored(path: Path) -> StoredFile:
    large = path.suffix in LARGE_FILES
    if large:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
    else:
        blob = f"blob {path.stat().st_size}\0".encode() + path.read_bytes()
        digest = hashlib.sha1(blob, usedforsecurity=False).hexdigest()
    return StoredFile(path, path.stat().st_size, digest, large)


def application(folder: Folder, *, token: str = "", dataset: Path | None = None) -> ASGIApp:
    """The hub as an ASGI application; with a `token` everything is gated and needs it as bearer."""
    hub = _Hub(folder, dataset)
    app = Starlette(
        routes=[
            Route("/", hub.front_page),
            Route("/api/models/{rest:path}", hub.model_api),
            Route("/{rest:path}", hub.file),
        ]
    )
    return _Door(app, token)


class _Hub:
    def __init__(self, folder: Folder, dataset: Path | None) -> None:
        self._folder = folder
        self._dataset = dataset

    async def front_page(self, request: Request) -> Response:
        del request
        return PlainTextResponse(
            "A sandbox model hub. Every model id is answered with one tiny random model.\n"
        )

    async def model_api(self, request: Request) -> Response:
        rest = request.path_params["rest"]
        if tree := TREE_PATH.fullmatch(rest):
            return self._tree(tree["revision"], tree["folder"] or "")
        if info := INFO_PATH.fullmatch(rest):
            return self._info(info["model"], info["revision"] or "main", request)
        return _refusal(404, "RepoNotFound", f"no such model: {rest}")

    async def file(self, request: Request) -> Response:
        if asked := DATASET_PATH.fullmatch(request.path_params["rest"]):
            return self._rows(asked["dataset"], asked["file"])
        found = FILE_PATH.fullmatch(request.path_params["rest"])
        if found is None:
            return _refusal(404, "RepoNotFound", f"no such page: {request.url.path}")
        commit = self._folder.resolve(found["revision"])
        if commit is None:
            return _revision_not_found(found["revision"])
        file = self._folder.files.get(found["file"])
        if file is None:
            response = _refusal(404, "EntryNotFound", f"no such file: {found['file']}")
            response.headers["X-Repo-Commit"] = commit
            return response
        if request.method == "GET":
            log.info("%s@%.12s: sending %s", found["model"], commit, file.path.name)
        return FileResponse(
            file.path,
            media_type="application/octet-stream",
            headers={"ETag": f'"{file.digest}"', "X-Repo-Commit": commit},
        )

    def _rows(self, dataset: str, file: str) -> Response:
        if self._dataset is None:
            return _refusal(
                404, "RepoNotFound", f"no such dataset: {dataset}; there is no --dataset"
            )
        log.info("dataset %s: sending %s in place of %s", dataset, self._dataset.name, file)
        return FileResponse(self._dataset, media_type="application/octet-stream")

    def _info(self, model: str, revision: str, request: Request) -> Response:
        commit = self._folder.resolve(revision)
        if commit is None:
            return _revision_not_found(revision)
        log.info("%s@%s: asked for; the tiny random model stands in", model, revision)
        siblings: list[dict[str, object]] = []
        for name, file in self._folder.files.items():
            sibling: dict[str, object] = {"rfilename": name}
            if "blobs" in request.query_params:
                sibling |= {"size": file.size, "blobId": file.digest[:40]}
            siblings.append(sibling)
        return JSONResponse(
            {
                "id": model,
                "modelId": model,
                "sha": commit,
                "private": False,
                "gated": False,
                "disabled": False,
                "tags": ["tiny-random"],
                "siblings": siblings,
            }
        )

    def _tree(self, revision: str, folder: str) -> Response:
        if self._folder.resolve(revision) is None:
            return _revision_not_found(revision)
        if folder:
            return _refusal(404, "EntryNotFound", f"no such folder: {folder}")
        return JSONResponse([file.listing() for file in self._folder.files.values()])


class _Door:
    """Checks the token before any route, and names the stand-in on every answer."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"].append((STAND_IN.lower().encode(), b"tiny random phi-3"))
            await send(message)

        app: ASGIApp = self._app
        if scope["type"] == "http" and (refused := self._check(Request(scope))) is not None:
            app = refused
        await app(scope, receive, named)

    def _check(self, request: Request) -> Response | None:
        if not self._token:
            return None
        given = request.headers.get("authorization", "")
        if not given:
            return _refusal(401, "GatedRepo", "Access to this model is restricted: log in first.")
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _refusal(401, "", "Invalid credentials in Authorization header")
        return None


def _revision_not_found(revision: str) -> Response:
    return _refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")


def _refusal(
    status: int,
    code: Literal["", "RepoNotFound", "RevisionNotFound", "EntryNotFound", "GatedRepo"],
    message: str,
) -> Response:
    """The real hub says why in two headers, so that an answer to HEAD says it too."""
    headers = {"X-Error-Message": message.encode("ascii", "replace").decode()}
    if code:
        headers["X-Error-Code"] = code
    return JSONResponse({"error": message}, status, headers)


def build_model(folder: Path, python: str) -> None:
    """Make the tiny model with the runtimes' own builder, unless the folder holds one already."""
    if not (folder / "config.json").is_file():
        log.info("making the tiny random model in %s", folder)
        _build(python, "runtimes.tiny", folder)


def build_dataset(file: Path, python: str) -> None:
    """Make the tiny dataset with the runtimes' own builder, unless the file is there already."""
    if not file.is_file():
        log.info("making the tiny dataset %s", file)
        _build(python, "runtimes.tiny_chats", file)


def _build(python: str, module: str, out: Path) -> None:
    command = [python, "-m", module, str(out)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HubError(f"--build-with {python}: {error}") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HubError(
            f"--build-with {python}: `-m {module}` failed: {reason} "
            "(is it the Python of runtimes/.venv?)"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; exit code 2 says that a flag must change."""
    flags = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    try:
        if flags.build_with:
            build_model(flags.folder, flags.build_with)
            if flags.dataset:
                build_dataset(flags.dataset, flags.build_with)
        folder = Folder.read(flags.folder)
        token = flags.token_file.read_text().strip() if flags.token_file else ""
        listener = _listen(flags.host, flags.port)
    except (HubError, OSError) as error:
        sys.stderr.write(f"sandbox.hub: {error}\n")
        return 2
    with listener:
        host, port = listener.getsockname()[:2]
        log.info("every model id is answered with the tiny random model in %s", folder.path)
        log.info("model hub ready at http://%s:%d (commit %s)", host, port, folder.commit)
        config = uvicorn.Config(
            application(folder, token=token, dataset=flags.dataset),
            log_config=None,
            access_log=False,
            lifespan="off",
        )
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again after its own end
            uvicorn.Server(config).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    try:
        listener = socket.create_server((host, port))
    except OSError as error:
        raise HubError(f"cannot listen on --host {host} --port {port}: {error.strerror}") from error
    # asyncio does this for sockets it makes itself; without it each answer waits 40 ms for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sandbox.hub",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Use it: HF_ENDPOINT=http://HOST:PORT hf download any/model --local-dir /tmp/model",
    )
    parser.add_argument("--folder", type=Path, required=True, help="the model that is served")
    parser.add_argument(
        "--build-with",
        metavar="PYTHON",
        help="a Python that has the runtimes (runtimes/.venv/bin/python): makes the tiny model "
        "in --folder and the --dataset first, if they are not there yet",
    )
    parser.add_argument(
        "--dataset",
        type=Path,
        metavar="FILE",
        help="answers every file of every dataset, such as /datasets/ORG/NAME/resolve/main/FILE",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8090, help="0: any (default: %(default)s)")
    parser.add_argument(
        "--token-file",
        type=Path,
        help="gate every model: only who sends the token in this file may download",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
