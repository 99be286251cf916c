"""API keys: who may ask, and what happens when the file changes."""

from pathlib import Path
from typing import Any

import openai
import pytest
from harness import Running

from runtimes.failure import StartupFailure
from runtimes.serving.app import application
from runtimes.serving.deployment import Deployment
from runtimes.serving.settings import Settings

FIRST, SECOND = "sk-first-0123456789", "sk-second-0123456789"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    path.write_text(f"# of the first team\n{FIRST}\n\n")
    return path


@pytest.fixture
def guarded(start: Any, keys: Path) -> Running:
    server: Running = start(api_key_file=keys, served_model_name="fake")
    return server


def ask(server: Running, key: str) -> int:
    headers = {b"Authorization": f"Bearer {key}".encode()} if key else {}
    return server.client.post("/chat", json={"prompt": "a"}, headers=headers).status_code


def test_only_a_key_opens_the_model(guarded: Running) -> None:
    assert ask(guarded, FIRST) == 200
    for wrong in ("", SECOND, FIRST[:-1], "# of the first team", "é" * 20):
        assert ask(guarded, wrong) == 401
    basic = guarded.client.get("/v1/models", headers={"Authorization": f"Basic {FIRST}"})
    assert basic.status_code == 401
    assert basic.headers["www-authenticate"] == "Bearer"


def test_openais_client_sends_its_key(guarded: Running) -> None:

    def client(key: str) -> openai.OpenAI:
        transport: Any = guarded.client  # its own kind is a newer httpx, with the same methods
        return openai.OpenAI(base_url=f"{guarded.url}/v1", api_key=key, http_client=transport)

    assert client(FIRST).models.list().data[0].id == "fake"
    with pytest.raises(openai.AuthenticationError) as caught:
        client(SECOND).models.list()
    assert caught.value.code == "invalid_api_key"


def test_probes_and_metrics_need_no_key(guarded: Running) -> None:
    for path in ("/", "/health", "/healthz", "/ready", "/metrics"):
        assert guarded.client.get(path).status_code == 200


def test_keys_come_and_go_without_a_restart(guarded: Running, keys: Path) -> None:
    keys.write_text(f"{SECOND}\n")
    assert ask(guarded, SECOND) == 200
    assert ask(guarded, FIRST) == 401


@pytest.mark.parametrize("content", [None, "", "short\n", "\xff\xfe"])
def test_a_broken_file_opens_no_door(guarded: Running, keys: Path, content: str | None) -> None:
    if content is None:
        keys.unlink()
    else:
        keys.write_text(content, encoding="latin-1")
    assert ask(guarded, "") == 401
    assert ask(guarded, FIRST) == 200


def test_a_mounted_secret_that_swaps_its_folder_is_read_again(tmp_path: Path, start: Any) -> None:
    for name, key in (("one", FIRST), ("two", SECOND)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "keys").write_text(key)
    link = tmp_path / "data"
    link.symlink_to(tmp_path / "one")
    server = start(api_key_file=link / "keys")
    assert ask(server, FIRST) == 200
    (tmp_path / "new").symlink_to(tmp_path / "two")
    (tmp_path / "new").replace(link)
    assert (ask(server, FIRST), ask(server, SECOND)) == (401, 200)


@pytest.mark.parametrize("content", [None, "# nothing\n", "short"])
def test_a_server_without_usable_keys_does_not_start(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_text(content)
    with pytest.raises(StartupFailure, match="--api_key_file"):
        application(Deployment.begin(Settings(api_key_file=path)))
