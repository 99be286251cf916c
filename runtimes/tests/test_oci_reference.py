import pytest

from runtimes.failure import Exit, Failure
from runtimes.oci.reference import Reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("r.example.com/team/adapter:v1", "r.example.com/team/adapter:v1"),
        ("docker://r.example.com/adapter", "r.example.com/adapter:latest"),
        ("localhost:5000/a/b/c:1.0_x", "localhost:5000/a/b/c:1.0_x"),
        ("localhost/a", "localhost/a:latest"),
        ("[::1]:5000/a", "[::1]:5000/a:latest"),
        ("busybox", "docker.io/library/busybox:latest"),
        ("team/adapter:v1", "docker.io/team/adapter:v1"),
        ("index.docker.io/team/adapter:v1", "docker.io/team/adapter:v1"),
        (f"r.example.com/a@{DIGEST}", f"r.example.com/a@{DIGEST}"),
        (f"r.example.com/a:v1@{DIGEST}", f"r.example.com/a@{DIGEST}"),
    ],
)
def test_references_become_canonical(text: str, canonical: str) -> None:
    reference = Reference.parse(text)
    assert str(reference) == canonical
    assert Reference.parse(canonical) == Reference.parse(str(reference))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "''"),
        ("r.example.com/", "''"),
        ("r.example.com/Team/adapter", "'Team'"),
        ("r.example.com/a:", "''"),
        ("r.example.com/a:ü", "'ü'"),
        ("r.example.com/a:v1@sha256:12", "'sha256:12'"),
        ("r.example.com/../a", "'..'"),
        ("r_.example.com/a", "'r_.example.com'"),
        ("r.example.com/a b", "'a b'"),
        ("--help.x/a", "'--help.x'"),
        (f"r.example.com/a@md5:{'a' * 32}", "'md5:"),
    ],
)
def test_what_is_wrong_is_named(text: str, part: str) -> None:
    with pytest.raises(Failure) as caught:
        Reference.parse(text)
    assert caught.value.code == Exit.SETTINGS
    assert part in caught.value.message
