import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from harness import serving_asgi
from huggingface_hub import constants
from sandbox import hub
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from runtimes import weights
from runtimes.failure import Exit, StartupFailure
from runtimes.weights import Plan, Source, Weights, find, select

PINNED = "0123456789abcdef0123456789abcdef01234567"
# More than the client writes at once, so that a cut leaves something to go on from.
CUT_AFTER = constants.DOWNLOAD_CHUNK_SIZE + 1_000_000
BYTES = bytes(range(256)) * (CUT_AFTER // 200)

Serve = Callable[..., "Watched"]
Fetch = Callable[..., Weights]


class Watched:
    """The sandbox's hub behind a network that a test can spoil."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.url = ""
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.cuts = 0
        self.outages = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        self.requests.append((scope["method"], scope["path"], headers))
        if self.outages:
            self.outages -= 1
            await send({"type": "http.response.start", "status": 503, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        cut = self.cuts > 0 and scope["method"] == "GET" and scope["path"].endswith("safetensors")
        self.cuts -= cut
        left = CUT_AFTER if cut else 2 * len(BYTES)

        async def sending(message: Message) -> None:
            nonlocal left
            left -= len(message.get("body", b""))
            if left < 0:
                raise ConnectionAbortedError
            await send(message)

        with suppress(ConnectionAbortedError):  # uvicorn then closes the unfinished connection
            await self._app(scope, receive, sending)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub client's own pauses between attempts, without the waiting."""
    clock = SimpleNamespace(**{**vars(time), "sleep": lambda _: None})
    monkeypatch.setattr("huggingface_hub.utils._http.time", clock)
    monkeypatch.setattr("huggingface_hub.file_download.time", clock)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "README.md").write_text("not needed")
    (folder / "modeling_phi3.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    (folder / "model.safetensors").write_bytes(BYTES)
    return folder


@pytest.fixture
def hubs() -> list["Watched"]:
    return []


@pytest.fixture
def serve(
    model: Path, hubs: list["Watched"], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Serve]:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(weights, "PAUSES", (0.0, 0.0))
    with ExitStack() as stack:

        def begin(**options: Any) -> Watched:
            watched = Watched(hub.application(hub.Folder.read(model), **options))
            watched.url = stack.enter_context(serving_asgi(watched))
            hubs.append(watched)
            return watched

        yield begin


@pytest.fixture
def fetch(hubs: list["Watched"], tmp_path: Path) -> Fetch:
    def fetch(**changes: Any) -> Weights:
        announce = changes.pop("announce", lambda _: None)
        source: dict[str, Any] = {
            "pretrained_model_name_or_path": "microsoft/Phi-3-mini-4k-instruct",
            "revision": PINNED,
            "allow_remote_files": True,
            "download_dir": tmp_path / "weights",
            "endpoint": hubs[-1].url if hubs else "http://127.0.0.1:9",
        }
        return find(Source(**{**source, **changes}), announce)

    return fetch


def failure(fetch: Fetch, **changes: Any) -> StartupFailure:
    with pytest.raises(StartupFailure) as raised:
        fetch(**changes)
    return raised.value


def test_only_what_serving_needs_is_fetched(
    serve: Serve, fetch: Fetch, model: Path, tmp_path: Path
) -> None:
    serve()
    plans: list[Plan] = []
    found = fetch(announce=plans.append)
    folder = tmp_path / "weights" / "microsoft--Phi-3-mini-4k-instruct" / PINNED
    assert found == Weights(folder, PINNED)
    names = {"config.json", "tokenizer.json", "model.safetensors"}
    assert {path.name for path in folder.iterdir() if path.is_file()} == {*names, "download.json"}
    assert (folder / "model.safetensors").read_bytes() == BYTES
    assert set(plans[0].files) == names
    assert plans[0].arrived() == plans[0].total == len(BYTES) + 4


def test_a_second_start_needs_no_hub(serve: Serve, fetch: Fetch) -> None:
    serve()
    first = fetch()
    plans: list[Plan] = []
    assert fetch(announce=plans.append, endpoint="http://127.0.0.1:9") == first
    assert plans == []


def test_a_branch_becomes_the_commit_it_is_at(serve: Serve, fetch: Fetch, model: Path) -> None:
    serve()
    found = fetch(revision="main")
    assert found.commit == found.folder.name == hub.Folder.read(model).commit


def test_a_cut_file_goes_on_where_it_ended(serve: Serve, fetch: Fetch) -> None:
    watched = serve()
    watched.cuts = 1
    assert (fetch().folder / "model.safetensors").read_bytes() == BYTES
    gets = [
        headers
        for method, path, headers in watched.requests
        if method == "GET" and path.endswith("model.safetensors")
    ]
    going_on = f"bytes={constants.DOWNLOAD_CHUNK_SIZE}-"
    assert [headers.get("range") for headers in gets] == [None, going_on]


def test_an_outage_of_the_hub_is_waited_for(serve: Serve, fetch: Fetch) -> None:
    serve().outages = 3
    assert (fetch().folder / "config.json").exists()


def test_what_a_killed_process_left_is_taken_over_or_removed(
    serve: Serve, fetch: Fetch, tmp_path: Path
) -> None:
    watched = serve()
    folder = fetch().folder
    (folder / "download.json").unlink()
    (folder / "model.safetensors").write_bytes(b"half")
    leftover = folder / ".cache" / "huggingface" / "download" / "x.incomplete"
    leftover.write_bytes(b"half")
    watched.requests.clear()
    assert (fetch().folder / "model.safetensors").read_bytes() == BYTES
    assert not leftover.exists()
    fetched = [
        path for method, path, _ in watched.requests if method == "GET" and "resolve" in path
    ]
    assert [path.rsplit("/", 1)[1] for path in fetched] == ["model.safetensors"]


def test_restricted_models_need_the_token_file(serve: Serve, fetch: Fetch, tmp_path: Path) -> None:
    serve(token="hf_right")
    (tmp_path / "wrong").write_text("hf_wrong")
    (tmp_path / "right").write_text("hf_right\n")
    for changes in ({}, {"hub_token_file": tmp_path / "wrong"}):
        refused = failure(fetch, **changes)
        assert refused.code == Exit.WEIGHTS
        assert "--hub_token_file" in refused.message
    assert fetch(hub_token_file=tmp_path / "right").commit == PINNED


def test_a_missing_token_file_is_named(serve: Serve, fetch: Fetch) -> None:
    serve()
    text = failure(fetch, hub_token_file=Path("/no/token")).message
    assert text == "--hub_token_file /no/token cannot be read: No such file or directory"


def test_an_unknown_revision_is_named(serve: Serve, fetch: Fetch) -> None:
    serve()
    text = failure(fetch, revision="v9").message
    assert "microsoft/Phi-3-mini-4k-instruct has no revision v9" in text


def test_a_hub_that_stays_away_is_named(fetch: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "PAUSES", (0.0, 0.0))
    refused = failure(fetch)
    assert refused.code == Exit.WEIGHTS
    assert "cannot be downloaded from http://127.0.0.1:9" in refused.message
    assert "HF_ENDPOINT" in refused.message


def test_weights_that_can_run_code_are_refused(serve: Serve, fetch: Fetch, model: Path) -> None:
    (model / "model.safetensors").unlink()
    serve()
    assert "has no *.safetensors weights" in failure(fetch).message


def test_a_full_disk_is_noticed_before_the_download(
    serve: Serve, fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = serve()
    usage = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert "give the node or the volume a larger disk" in failure(fetch).message
    assert not any("resolve" in path for _, path, _ in watched.requests)


def test_a_folder_that_cannot_be_written_is_named(
    serve: Serve, fetch: Fetch, tmp_path: Path
) -> None:
    serve()
    (tmp_path / "file").write_text("")
    text = failure(fetch, download_dir=tmp_path / "file").message
    assert f"--download_dir {tmp_path / 'file'} cannot take the model" in text


def test_a_folder_of_ones_own_is_taken_as_it_is(fetch: Fetch, model: Path) -> None:
    assert fetch(pretrained_model_name_or_path=str(model)) == Weights(model)


def test_nothing_is_downloaded_unasked(fetch: Fetch) -> None:
    assert "add --allow_remote_files" in failure(fetch, allow_remote_files=False).message


@pytest.mark.parametrize("name", ["/no/such/folder", "a/b/c", "../x", "a b"])
def test_what_is_neither_folder_nor_id_is_named(fetch: Fetch, name: str) -> None:
    refused = failure(fetch, pretrained_model_name_or_path=name)
    assert refused.code == Exit.SETTINGS


def test_weights_stored_twice_are_fetched_once() -> None:
    listed = {
        "config.json": 1,
        "consolidated.safetensors": 9,
        "model-00001-of-00002.safetensors": 5,
        "model-00002-of-00002.safetensors": 5,
        "model.safetensors.index.json": 1,
        "onnx/model.safetensors": 9,
        "tokenizer.model": 1,
        "vocab.txt": 1,
        "training_args.bin": 1,
    }
    assert set(select(listed)) == {
        "config.json",
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
        "tokenizer.model",
        "vocab.txt",
    }
    assert "consolidated.safetensors" in select({"consolidated.safetensors": 9})


def test_the_note_tells_what_is_here(serve: Serve, fetch: Fetch) -> None:
    serve()
    note = json.loads((fetch().folder / "download.json").read_text())
    assert note["model"] == "microsoft/Phi-3-mini-4k-instruct"
    assert note["commit"] == PINNED
    assert note["files"]["model.safetensors"] == len(BYTES)
