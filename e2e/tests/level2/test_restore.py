"""What level 2 takes back of its host's network, and what it leaves alone."""

from pathlib import Path

import pytest

from sandbox.nodes.kubelet import network


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, list[tuple[str, ...]]]:
    """A host with kube-proxy's tables, whose nft commands are written down."""
    done: dict[str, list[tuple[str, ...]]] = {"nft": []}
    forwarding = tmp_path / "ip_forward"
    forwarding.write_text("0\n")
    monkeypatch.setattr(network, "FORWARDING", forwarding)
    monkeypatch.setattr(network, "proxy_tables", lambda: ["ip kube-proxy", "ip6 kube-proxy"])
    monkeypatch.setattr(network, "_nft", lambda *words: done["nft"].append(words))
    return done


def test_another_clusters_tables_are_left_where_nothing_was_opened(
    host: dict[str, list[tuple[str, ...]]], tmp_path: Path
) -> None:
    network.restore(tmp_path / "note")
    assert host["nft"] == []


def test_what_was_opened_is_undone_once(
    host: dict[str, list[tuple[str, ...]]], tmp_path: Path
) -> None:
    note = tmp_path / "note"
    network.enable_forwarding(note)
    assert network.FORWARDING.read_text() == "1\n"
    network.restore(note)
    network.restore(note)
    assert host["nft"] == [
        ("delete", "table", "ip", "kube-proxy"),
        ("delete", "table", "ip6", "kube-proxy"),
    ]
    assert network.FORWARDING.read_text() == "0\n"
