"""What a hostile server sends as an app is refused before anything of it is imported: a real
SuperLink, our node, and a stock node that shows that the attacks are real.
"""

from pathlib import Path

import pytest

from fedcore.apps import app_files
from simulations.deployment_processes import Process, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
# Only a node's processes have the variable: the server may run its own code as it likes.
TOUCH = "import os\nif mark := os.environ.get('STAGE_MARK'): open(mark, 'w').close()\n"
EVIL_APP = TOUCH + "from flwr.clientapp import ClientApp\napp = ClientApp()\n"


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "hostile-code-ran"


def project(component: str = "clients.app:app", version: str = "1.0.0", code: str = "") -> str:
    text = app_files()["pyproject.toml"].decode()
    text = text.replace("clients.app:app", component).replace("1.0.0", version)
    return text.replace('"fedapp.toml",', f'"fedapp.toml", "{code}",') if code else text


def hostile_apps(stage) -> dict[str, Path]:
    with_code = {"pyproject.toml": project(code="**/*.py")}
    other = {"pyproject.toml": project(component="evil:app", code="*.py"), "evil.py": EVIL_APP}
    apps = {
        "shadowing-package": {
            **with_code,
            "clients/__init__.py": TOUCH,
            "clients/app.py": EVIL_APP,
        },
        "shadowing-module": {**with_code, "torch.py": TOUCH},
        "nested": {**with_code, "a/b/clients/app.py": EVIL_APP},
        "other-component": other,
        "other-version": {"pyproject.toml": project(version="6.6.6")},
    }
    return {name: stage.app(name, files) for name, files in apps.items()}


def test_hostile_bundles_are_refused_unimported_and_the_agreed_one_is_answered(
    stage, started, marker
):
    node = started(stage, environment={"STAGE_MARK": str(marker)})
    for name, app in hostile_apps(stage).items():
        stage.submit(app, name)
        (answer,) = stage.answers(name)
        assert (answer["code"], answer["reason"]) == (7, "The FAB could not be verified."), name
        assert not marker.exists(), name
    assert node.process.output().count("app.not_agreed") == 5
    assert not list((node.loaded.state_dir / "engine/flower").rglob("*.py"))
    # The twin: the very same node answers the agreed bundle, by our own reason code.
    stage.submit(stage.app("agreed", {}), "agreed")
    (answer,) = stage.answers("agreed")
    assert (answer["code"], answer["reason"]) == (1, "node.unavailable")


@pytest.mark.parametrize("name", ["shadowing-package", "shadowing-module", "other-component"])
def test_a_stock_node_runs_the_same_bundles(stage, staging, marker, tmp_path, name):
    node = staging.make_node(tmp_path / "node", stage)
    stage.register(node.transport_key)
    stock = Process(
        "stock",
        [
            str(staging.BIN / "flower-supernode"),
            *("--superlink", f"127.0.0.1:{stage.port}"),
            *("--root-certificates", str(stage.root / "ca.pem")),
            *("--auth-supernode-private-key", str(node.loaded.state_dir / "transport.key")),
            *("--port", str(node.loaded.runtime_port)),
        ],
        tmp_path / "stock.log",
        {
            **stage.environment(),
            "FLWR_HOME": str(tmp_path / "stock-home"),
            "STAGE_MARK": str(marker),
        },
    ).start()
    try:
        stage.submit(hostile_apps(stage)[name], name)
        wait_until(marker.exists, "the hostile code to run", 90, stock.output)
    finally:
        stock.kill()
