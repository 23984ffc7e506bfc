import pytest

from clients.doctor.proxies import check_proxy, grpc_proxy, http_proxy


@pytest.fixture
def look(found):
    return lambda: list(
        check_proxy(
            found(governance_url="https://governance.example", superlink="superlink.example:9092")
        )
    )


def test_without_a_proxy_in_the_environment_all_is_well(look):
    assert [finding.outcome for finding in look()] == ["ok", "ok"]


def test_a_proxy_is_named_without_its_password(look, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://ann:secret@proxy.example:3128")
    governance, superlink = look()
    assert governance.outcome == "warning"
    assert "proxy.example:3128" in governance.sentence
    assert "secret" not in f"{governance}"
    assert "NO_PROXY" in governance.way_out
    # gRPC reads names in lower case only.
    assert superlink.outcome == "ok"


def test_grpc_takes_the_lower_case_proxy_and_so_does_governance(look, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    governance, superlink, loopback = look()
    assert [governance.outcome, superlink.outcome] == ["warning", "warning"]
    assert "own processes" in loopback.sentence


def test_whoever_is_spared_is_reached_directly(look, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "superlink.example,governance.example,127.0.0.1,localhost")
    assert [finding.outcome for finding in look()] == ["ok", "ok"]


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_a_proxy_between_the_nodes_own_processes_is_a_warning(look, monkeypatch, name):
    monkeypatch.setenv(name, "http://proxy.example:3128")
    *_, loopback = look()
    assert "127.0.0.1,localhost" in loopback.way_out
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
    assert not [finding for finding in look() if "own processes" in finding.sentence]


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://p:1"}, None),
        ({"https_proxy": "http://p:1"}, "http://p:1"),
        ({"grpc_proxy": "http://g:1", "https_proxy": "http://p:1"}, "http://g:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "other.example"}, "http://p:1"),
        ({"https_proxy": "http://p:1", "no_proxy": "a, .example"}, None),
        ({"https_proxy": "http://p:1", "no_proxy": "link.example"}, "http://p:1"),
        ({"https_proxy": "http://p:1", "no_grpc_proxy": "superlink.example"}, None),
    ],
)
def test_grpc_reads_the_environment_in_its_own_way(environment, proxy):
    assert grpc_proxy("superlink.example", environment) == proxy


def test_an_http_client_takes_the_proxy_of_its_scheme(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://p:1")
    assert http_proxy("https", "governance.example") == "http://p:1"
    assert http_proxy("http", "governance.example") is None
