"""Tests talk to this machine only."""

import socket

import pytest


def test_loopback_is_reachable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_any_other_host_is_refused_before_a_packet_is_sent():
    with (
        pytest.raises(Exception, match=r'connect\(\) with host "192\.0\.2\.1"'),
        socket.socket() as outgoing,
    ):
        outgoing.connect(("192.0.2.1", 80))
