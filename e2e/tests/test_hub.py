import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from huggingface_hub import HfApi, RepoFile, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RevisionNotFoundError,
)

from sandbox import hub

PINNED = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = bytes(range(256)) * 4096
READY = re.compile(r"model hub ready at (http://\S+) \(commit (\w+)\)")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    (folder / "config.json").write_text('{"model_type": "phi3"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    return folder


@contextmanager
def running_hub(folder: Path, *flags: str) -> Iterator[str]:
    command = [sys.executable, "-m", "sandbox.hub", "--folder", str(folder), "--port", "0"]
    with subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if found := READY.search(line):
                    yield found[1]
                    break
            else:
                pytest.fail("the hub ended before it was ready")
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(10)


@pytest.fixture(scope="module")
def endpoint(folder: Path) -> Iterator[str]:
    with running_hub(folder) as url:
        yield url


def test_the_real_client_downloads_any_model_at_a_pinned_commit(
    endpoint: str, folder: Path, tmp_path: Path
) -> None:
    snapshot_download(
        "microsoft/Phi-3-mini-4k-instruct",
        revision=PINNED,
        endpoint=endpoint,
        local_dir=tmp_path / "weights",
        cache_dir=tmp_path / "cache",
    )
    for file in folder.iterdir():
        assert (tmp_path / "weights" / file.name).read_bytes() == file.read_bytes()


def test_the_cache_layout_of_the_real_client_knows_the_commit(
    endpoint: str, tmp_path: Path
) -> None:
    path = hf_hub_download(
        "gpt2", "model.safetensors", revision=PINNED, endpoint=endpoint, cache_dir=tmp_path
    )
    assert f"snapshots/{PINNED}" in path
    assert Path(path).resolve().name == hashlib.sha256(WEIGHTS).hexdigest()


def test_main_is_a_commit_that_follows_the_content(endpoint: str, folder: Path) -> None:
    info = HfApi(endpoint).model_info("tiiuae/falcon-7b", files_metadata=True)
    assert info.sha == hub.Folder.read(folder).commit
    assert info.siblings is not None
    sizes = {file.rfilename: file.size for file in info.siblings}
    assert sizes == {file.name: file.stat().st_size for file in folder.iterdir()}


def test_the_listing_carries_sizes_and_the_digest_of_large_files(endpoint: str) -> None:
    listed = HfApi(endpoint).list_repo_tree("a/b", revision=PINNED)
    files = {entry.path: entry for entry in listed if isinstance(entry, RepoFile)}
    weights = files["model.safetensors"]
    assert weights.size == len(WEIGHTS)
    assert weights.lfs is not None
    assert weights.lfs.sha256 == hashlib.sha256(WEIGHTS).hexdigest()
    assert files["config.json"].lfs is None


def test_a_cut_download_can_go_on_where_it_ended(endpoint: str) -> None:
    url = f"{endpoint}/a/b/resolve/main/model.safetensors"
    head = httpx.head(url)
    assert head.headers["content-length"] == str(len(WEIGHTS))
    rest = httpx.get(url, headers={"Range": "bytes=1000-", "If-Range": head.headers["etag"]})
    assert rest.status_code == 206
    assert rest.content == WEIGHTS[1000:]


def test_one_file_stands_in_for_those_of_all_datasets(folder: Path, tmp_path: Path) -> None:
    rows = tmp_path / "rows.parquet"
    rows.write_bytes(b"PAR1")
    path = "/datasets/someone/chats/resolve/main/data/train-00000.parquet?download=true"
    with running_hub(folder, f"--dataset={rows}") as url:
        assert httpx.get(url + path).content == b"PAR1"
        assert httpx.get(f"{url}/datasets/a/b/c").status_code == 404


def test_a_hub_without_a_dataset_says_so(endpoint: str) -> None:
    answer = httpx.get(f"{endpoint}/datasets/a/b/resolve/main/c.parquet")
    assert answer.status_code == 404
    assert "there is no --dataset" in answer.json()["error"]


def test_every_answer_says_which_model_stands_in(endpoint: str) -> None:
    for path in ("/", "/api/models/a/b", "/a/b/resolve/main/config.json", "/api/models/a/b/c/d"):
        assert httpx.get(endpoint + path).headers["x-sandbox-model"] == "tiny random phi-3"


def test_an_unknown_file_and_an_unknown_revision_are_told_apart(
    endpoint: str, tmp_path: Path
) -> None:
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download("a/b", "missing.json", endpoint=endpoint, cache_dir=tmp_path)
    with pytest.raises(RevisionNotFoundError):
        HfApi(endpoint).model_info("a/b", revision="v9")


@pytest.mark.parametrize("path", ["/api/models/a/b/c/d", "/nothing", "/a/b/resolve/main"])
def test_what_is_no_model_is_not_found(endpoint: str, path: str) -> None:
    answer = httpx.get(endpoint + path)
    assert (answer.status_code, answer.headers["x-error-code"]) == (404, "RepoNotFound")


@pytest.mark.parametrize("name", ["../config.json", "..%2f..%2fetc%2fpasswd", "%2fetc%2fpasswd"])
def test_nothing_outside_the_folder_is_served(endpoint: str, name: str) -> None:
    with httpx.Client() as client:
        assert client.get(f"{endpoint}/a/b/resolve/main/{name}").status_code == 404


def test_a_gated_hub_wants_its_token(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_right\n")
    with running_hub(folder, "--token-file", str(tmp_path / "token")) as url:
        with pytest.raises(GatedRepoError):
            HfApi(url, token=False).model_info("a/b")
        with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
            HfApi(url, token="hf_wrong").model_info("a/b")
        assert HfApi(url, token="hf_right").model_info("a/b").id == "a/b"


def run_hub(*flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sandbox.hub", *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_folder_without_a_model_is_refused_with_the_remedy(tmp_path: Path) -> None:
    ended = run_hub("--folder", str(tmp_path))
    assert ended.returncode == 2
    assert "holds no model (no config.json): make one with" in ended.stderr


def test_a_builder_that_is_not_the_runtimes_python_is_named(tmp_path: Path) -> None:
    ended = run_hub("--folder", str(tmp_path), "--build-with", sys.executable)
    assert ended.returncode == 2
    assert f"--build-with {sys.executable}: `-m runtimes.tiny` failed" in ended.stderr
    assert "runtimes/.venv" in ended.stderr


def test_the_builder_runs_once(tmp_path: Path) -> None:
    builder = tmp_path / "python"
    builder.write_text(
        "#!/bin/sh\n"
        '[ "$1 $2" = "-m runtimes.tiny" ] && echo built >> "$3/config.json"\n'
        '[ "$1 $2" = "-m runtimes.tiny_chats" ] && echo built >> "$3"\n'
        "exit 0\n"
    )
    builder.chmod(0o755)
    folder = tmp_path / "model"
    folder.mkdir()
    for _ in range(2):
        hub.build_model(folder, os.fspath(builder))
        hub.build_dataset(tmp_path / "rows", os.fspath(builder))
    assert (folder / "config.json").read_text() == "built\n"
    assert (tmp_path / "rows").read_text() == "built\n"


def test_a_taken_port_is_named(folder: Path, endpoint: str) -> None:
    ended = run_hub("--folder", str(folder), "--port", endpoint.rsplit(":", 1)[1])
    assert ended.returncode == 2
    assert "cannot listen on --host 127.0.0.1 --port" in ended.stderr
