import socket
import urllib.error
import urllib.request

import pytest

from fedserver.engine.health import answering


def asked(port, path="/healthz"):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


@pytest.mark.parametrize(("status", "code"), [("ok", 200), ("starting", 503), ("failing", 503)])
def test_the_status_is_the_answer(status, code):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    with answering(listener, lambda: {"status": status, "runs": [7]}):
        assert asked(port) == (code, f'{{"status": "{status}", "runs": [7]}}'.encode())
        assert asked(port, "/")[0] == 404
    with pytest.raises(OSError, match="refused"):
        asked(port)
