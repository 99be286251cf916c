"""Push and pull against a real registry, with every kind of login that registries ask for."""

import gzip
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import wait_until
from registries import (
    PASSWORD,
    REFRESH_TOKEN,
    USER,
    Registry,
    basic,
    docker_config,
    need_programs,
    registry,
)
from test_oci_layers import Member, file, special, tar

from runtimes.failure import Exit, Failure
from runtimes.oci import image
from runtimes.oci.reference import Reference
from runtimes.oci.registry import Access, push_files


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("plain")) as made:
        yield made


@pytest.fixture(scope="module", params=["basic", "bearer"])
def locked(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp(request.param), request.param) as made:
        yield made


@pytest.fixture(scope="module")
def bearer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("tokens"), "bearer") as made:
        yield made


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    (folder / "deep").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}")
    (folder / "deep" / "weights").write_bytes(os.urandom(300_000))
    return folder


def command(verb: str, *arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "runtimes.oci", verb, *map(str, arguments)]


def oci(verb: str, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(verb, *arguments),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PATH": os.environ["PATH"], **environment},
    )


def last_line(ended: subprocess.CompletedProcess[str]) -> str:
    return ended.stderr.splitlines()[-1]


def content(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_is_pushed_is_what_is_pulled(plain: Registry, adapter: Path, tmp_path: Path) -> None:
    insecure = f"--insecure-registry={plain.host}"
    pushed = oci("push", adapter, plain.reference("team/a:v1"), insecure, "--annotation=k=v")
    assert pushed.returncode == 0, pushed.stderr
    digest = plain.digest("team/a", "v1")
    assert pushed.stdout == f"{plain.host}/team/a@{digest}\n"

    pulled = oci("pull", pushed.stdout.strip(), tmp_path / "out", insecure)
    assert pulled.returncode == 0, pulled.stderr
    assert pulled.stdout == f"{plain.host}/team/a@{digest}: 2 files in {tmp_path / 'out'}\n"
    assert content(tmp_path / "out") == content(adapter)

    shown = json.loads(oci("inspect", plain.reference("team/a:v1"), insecure).stdout)
    assert shown["digest"] == digest
    assert shown["annotations"]["k"] == "v"

    again = oci("push", adapter, plain.reference("team/a:v2"), insecure, "--annotation=k=v")
    assert again.stdout == pushed.stdout
    # skopeo, whose word is worth more than ours, reads the same image
    copy = tmp_path / "copy"
    source = f"docker://{plain.host}/team/a@{digest}"
    subprocess.run(
        ["skopeo", "copy", "--src-tls-verify=false", source, f"dir:{copy}"], check=True, timeout=30
    )
    assert (copy / "manifest.json").exists()


def test_a_pull_repeated_or_after_a_kill_ends_the_same(
    plain: Registry, adapter: Path, tmp_path: Path
) -> None:
    insecure, target = f"--insecure-registry={plain.host}", tmp_path / "out"
    reference = plain.reference("team/b:v1")
    oci("push", adapter, reference, insecure)
    (target / ".pull-left" / "layout").mkdir(parents=True)
    (target / "adapter_config.json").write_text("half")
    (target / "other").write_text("not ours")
    for _ in range(2):
        assert oci("pull", reference, target, insecure).returncode == 0
    assert content(target) == {**content(adapter), "other": b"not ours"}


@pytest.mark.parametrize(
    "entry",
    [
        {"auth": basic()},
        {"username": USER, "password": PASSWORD},
    ],
    ids="+".join,
)
@pytest.mark.parametrize("key", ["{}/team", "https://{}/v1/"])
def test_logins_with_a_password(
    locked: Registry, key: str, entry: dict[str, str], adapter: Path, tmp_path: Path
) -> None:
    config = docker_config(tmp_path / "config.json", key.format(locked.host), **entry)
    flags = (f"--docker-config={config}", f"--insecure-registry={locked.host}")
    pushed = oci("push", adapter, locked.reference("team/a:v1"), *flags)
    assert pushed.returncode == 0, pushed.stderr
    pulled = oci("pull", pushed.stdout.strip(), tmp_path / "out", *flags)
    assert pulled.returncode == 0, pulled.stderr
    assert content(tmp_path / "out") == content(adapter)


def test_an_identity_token(bearer: Registry, adapter: Path, tmp_path: Path) -> None:
    assert bearer.tokens is not None
    bearer.tokens.asked.clear()
    config = docker_config(tmp_path / "c.json", bearer.host, identitytoken=REFRESH_TOKEN)
    flags = (f"--docker-config={config}", f"--insecure-registry={bearer.host}")
    pushed = oci("push", adapter, bearer.reference("team/i:v1"), *flags)
    assert pushed.returncode == 0, pushed.stderr
    assert set(bearer.tokens.asked) == {"refresh_token"}


def test_a_registry_token(bearer: Registry, adapter: Path, tmp_path: Path) -> None:
    assert bearer.tokens is not None
    bearer.tokens.asked.clear()
    token = bearer.tokens.token("repository:team/r:pull,push")
    config = docker_config(tmp_path / "c.json", bearer.host, registrytoken=token)
    flags = (f"--docker-config={config}", f"--insecure-registry={bearer.host}")
    pushed = oci("push", adapter, bearer.reference("team/r:v1"), *flags)
    assert pushed.returncode == 0, pushed.stderr
    assert bearer.tokens.asked == []


def test_the_next_login_is_tried(locked: Registry, adapter: Path, tmp_path: Path) -> None:
    wrong = docker_config(tmp_path / "1.json", locked.host, auth=basic(password="wrong"))
    right = docker_config(tmp_path / "config.json", locked.host, auth=basic())
    flags = (f"--docker-config={wrong}", f"--insecure-registry={locked.host}")
    refused = oci("push", adapter, locked.reference("team/n:v1"), *flags)
    assert refused.returncode == Exit.REGISTRY
    assert f"the login of {wrong} (user 'user') is refused" in last_line(refused)
    assert "wrong" not in refused.stderr

    both = oci("push", adapter, locked.reference("team/n:v1"), *flags, f"--docker-config={right}")
    assert both.returncode == 0, both.stderr
    ambient = (f"--insecure-registry={locked.host}",)
    by_variable = oci(
        "inspect", locked.reference("team/n:v1"), *ambient, DOCKER_CONFIG=str(tmp_path)
    )
    assert by_variable.returncode == 0, by_variable.stderr


def test_no_login_says_which_flag(locked: Registry, tmp_path: Path) -> None:
    insecure = f"--insecure-registry={locked.host}"
    ended = oci("pull", locked.reference("team/a:v1"), tmp_path / "out", insecure)
    assert ended.returncode == Exit.REGISTRY
    assert "no secret has a login for it; name one with --docker-config" in last_line(ended)
    assert content(tmp_path / "out") == {}


def test_plain_http_only_where_it_was_allowed(plain: Registry, tmp_path: Path) -> None:
    ended = oci("pull", plain.reference("team/a:v1"), tmp_path, "--insecure-registry=other:5000")
    assert ended.returncode == Exit.REGISTRY
    assert f"add --insecure-registry={plain.host}" in last_line(ended)


def test_what_is_not_there(plain: Registry, tmp_path: Path) -> None:
    insecure = f"--insecure-registry={plain.host}"
    ended = oci("pull", plain.reference("team/none:v1"), tmp_path, insecure)
    assert ended.returncode == Exit.REGISTRY
    assert "has no such image: check the name and the tag" in last_line(ended)


def test_a_registry_that_is_not_reached(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_programs()
    monkeypatch.setattr("runtimes.oci.skopeo.RETRIES", 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nobody = f"127.0.0.1:{listener.getsockname()[1]}"
    files = {"adapter_config.json": adapter / "adapter_config.json"}
    with pytest.raises(Failure, match="cannot be reached") as caught:
        push_files(files, Reference.parse(f"{nobody}/a:v1"), Access((), [nobody]), annotations={})
    assert caught.value.code == Exit.REGISTRY


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("pull", "r.example.com/A", "out"), "'A' is no part of an image's name"),
        (("pull", "r.example.com/a"), "required: FOLDER"),
        (("push", "/nonexistent", "r.example.com/a"), "/nonexistent is not a folder"),
        (("push", "{}", "r.example.com/a"), "holds no files"),
        (("pull", "r.example.com/a", "{}", "--docker-config=/none"), "/none cannot be read"),
        (("pull", "r.example.com/a", "{}", "--insecure"), "unrecognized arguments: --insecure"),
    ],
)
def test_mistakes_are_one_line(arguments: tuple[str, ...], words: str, tmp_path: Path) -> None:
    ended = oci(*(argument.format(tmp_path) for argument in arguments))
    assert ended.returncode == Exit.SETTINGS
    assert words in ended.stderr
    assert ended.stderr.startswith("runtimes.oci: ")
    assert ended.stderr.count("\n") == 1


def put(plain: Registry, tmp_path: Path, name: str, layer: bytes, **changes: Any) -> str:
    """Push an image with a layer of our making, by skopeo alone."""
    folder = tmp_path / "hostile"
    made = image.build({}, folder, annotations={})
    blobs = folder / "blobs" / "sha256"

    def add(content: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(content).hexdigest()
        (blobs / digest).write_bytes(content)
        return {"digest": f"sha256:{digest}", "size": len(content)}

    index = json.loads((folder / "index.json").read_bytes())
    manifest = json.loads((blobs / made.digest.removeprefix("sha256:")).read_bytes())
    manifest["layers"] = [{"mediaType": image.LAYER, **add(layer), **changes}]
    index["manifests"][0].update(add(json.dumps(manifest).encode()))
    (folder / "index.json").write_text(json.dumps(index))
    copied = (f"oci:{folder}:latest", f"docker://{plain.reference(name)}")
    flags = ("--preserve-digests", "--dest-tls-verify=false")
    subprocess.run(["skopeo", "copy", *flags, *copied], check=True, timeout=30)
    return plain.reference(name)


@pytest.mark.parametrize(
    ("name", "members", "words"),
    [
        ("outside", [file("data/../../x")], "points outside"),
        ("link", [special("data/l", b"2", "/etc/passwd")], "symbolic link to '/etc/passwd'"),
        ("nothing", [file("etc/passwd")], "nothing in /data"),
        ("large", [file("data/x", bytes(2_000_000))], "raise --max-bytes"),
    ],
)
def test_an_image_that_is_refused_leaves_nothing(
    plain: Registry, tmp_path: Path, name: str, members: list[Member], words: str
) -> None:
    reference = put(plain, tmp_path, f"hostile/{name}:v1", gzip.compress(tar(*members)))
    flags = (f"--insecure-registry={plain.host}", "--max-bytes=1000000")
    ended = oci("pull", reference, tmp_path / "out", *flags)
    assert ended.returncode == Exit.DATA
    assert words in last_line(ended)
    assert reference in last_line(ended)
    assert list((tmp_path / "out").iterdir()) == []


def test_sigterm_ends_skopeo_and_removes_the_half_image(tmp_path: Path) -> None:
    """The registry takes the connection and says nothing."""
    need_programs()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        pulling = command("pull", f"{host}/a:v1", tmp_path / "out", f"--insecure-registry={host}")
        with (
            subprocess.Popen(pulling, stderr=subprocess.PIPE) as process,
            silent.accept()[0],
        ):
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            [child] = children.read_text().split()
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 143
    wait_until(lambda: not Path("/proc", child).exists())
    assert list((tmp_path / "out").iterdir()) == []


def test_a_transfer_has_a_deadline(tmp_path: Path) -> None:
    need_programs()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = f"127.0.0.1:{silent.getsockname()[1]}"
        flags = (f"--insecure-registry={host}", "--timeout=0.5")
        ended = oci("pull", f"{host}/a:v1", tmp_path / "out", *flags)
    assert ended.returncode == Exit.REGISTRY
    assert "raise --timeout" in last_line(ended)


@pytest.mark.parametrize("verb", ["", "pull", "push", "inspect"])
def test_help_teaches(verb: str) -> None:
    ended = oci(*filter(None, [verb]), "--help") if verb else oci("--help")
    assert ended.returncode == 0
    assert "exit codes:" in ended.stdout
    if verb:
        assert f"python -m runtimes.oci {verb} " in ended.stdout
        assert "--docker-config" in ended.stdout
