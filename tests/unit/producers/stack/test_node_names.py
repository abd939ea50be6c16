"""Workers are called by the names of their containers where Docker tells them."""

import socket

import pytest

from producers.stack import node_names


@pytest.fixture
def resolver(tmp_path, monkeypatch):
    monkeypatch.setattr(node_names, "RESOLVER", tmp_path / "resolv.conf")
    return tmp_path / "resolv.conf"


@pytest.mark.parametrize(
    ("servers", "answer", "name"),
    [
        ("nameserver 127.0.0.11\noptions ndots:0\n", "scoring_worker_1.scoring_default", "scoring_worker_1"),
        ("nameserver 127.0.0.11\n", "a name@no worker could have", None),
        # who asks another server asks the network, which takes its time and knows no containers
        ("nameserver 10.0.0.2\n", "host.example", None),
    ],
)
def test_the_name_of_the_container_is_that_of_the_worker(resolver, monkeypatch, servers, answer, name):
    resolver.write_text(servers)
    monkeypatch.setattr(socket, "gethostbyname", lambda host: "172.18.0.5")
    monkeypatch.setattr(socket, "gethostbyaddr", lambda address: (answer, [], [address]))
    assert node_names.node_host() == (name or socket.gethostname())


def test_a_name_server_that_does_not_know_leaves_the_name_of_the_machine(resolver, monkeypatch):
    resolver.write_text("nameserver 127.0.0.11\n")

    def unknown(address):
        raise socket.herror

    monkeypatch.setattr(socket, "gethostbyname", lambda host: "172.18.0.5")
    monkeypatch.setattr(socket, "gethostbyaddr", unknown)
    assert node_names.node_host() == socket.gethostname()
    resolver.unlink()
    assert node_names.node_host() == socket.gethostname()
