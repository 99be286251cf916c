from pathlib import Path

import pytest
import yaml

from sandbox.nodes.kubelet import cleanup, network, subnets


def test_each_vm_has_a_subnet_of_its_own_and_keeps_it(tmp_path: Path) -> None:
    first = subnets.claim(tmp_path, "a")
    second = subnets.claim(tmp_path, "b")

    assert {first, second} == {0, 1}
    assert subnets.claim(tmp_path, "a") == first


def test_a_released_subnet_is_given_again(tmp_path: Path) -> None:
    subnets.claim(tmp_path, "a")
    subnets.claim(tmp_path, "b")

    subnets.release(tmp_path, "a")
    subnets.release(tmp_path, "a")

    assert subnets.claim(tmp_path, "c") == 0


def test_pods_ask_the_hosts_name_servers(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("search x\nnameserver 127.0.0.53\nnameserver fd00::1\nnameserver 10.0.0.2\n")

    assert network.name_servers("10.0.0.4", [tmp_path / "none", file]) == ("10.0.0.2",)


def test_without_a_usable_name_server_pods_are_refused_at_once(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.53\n")

    assert network.name_servers("10.0.0.4", [file]) == ("10.0.0.4",)


def test_a_pod_reaches_itself_through_its_service(tmp_path: Path) -> None:
    text = network.kube_proxy_config(kubeconfig=tmp_path, node="n", health_port=1, metrics_port=2)

    assert yaml.safe_load(text)["nftables"]["masqueradeAll"] is True


def test_a_sandbox_that_never_had_the_host_leaves_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise AssertionError("the host's rules were touched")

    monkeypatch.setattr(network, "_nft", refuse)
    before = network.FORWARDING.read_text()

    cleanup(tmp_path)

    assert network.FORWARDING.read_text() == before
