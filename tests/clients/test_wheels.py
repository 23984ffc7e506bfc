"""Wheels for a machine without internet, installed for real into a fresh environment."""

import base64
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from email import message_from_string
from importlib.metadata import distribution

import pytest
from packaging.requirements import Requirement

from clients.wheels import INSTALL, REQUIREMENTS, SUMS, pins_of, write_bundle
from fedcore.errors import FedError

RICH = {"markdown-it-py", "mdurl", "pygments", "rich"}


def packed(name, folder):
    """Pack an installed distribution of Python files into the wheel that it came from."""
    installed = distribution(name)
    stem = f"{name.replace('-', '_')}-{installed.version}"
    lines = []
    with zipfile.ZipFile(folder / f"{stem}-py3-none-any.whl", "w") as archive:
        for path in installed.files or []:
            if path.parts[0] == ".." or "__pycache__" in path.parts or path.name == "RECORD":
                continue
            data = path.read_binary()
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            lines.append(f"{path},sha256={digest},{len(data)}")
            archive.writestr(str(path), data)
        lines.append(f"{stem}.dist-info/RECORD,,")
        archive.writestr(f"{stem}.dist-info/RECORD", "\n".join(lines) + "\n")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """A folder with the wheels of `rich` and all that it needs, so that nothing is fetched."""
    folder = tmp_path_factory.mktemp("shelf")
    for name in RICH:
        packed(name, folder)
    return folder


@pytest.fixture(scope="module")
def bundle(shelf, tmp_path_factory):
    options = ("--no-index", "--find-links", str(shelf))
    return write_bundle(tmp_path_factory.mktemp("bundles") / "rich", "rich", options)


def clean_environment():
    return {k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))}


def commands_of(folder):
    """The commands of INSTALL.txt, in order."""
    text = (folder / INSTALL).read_text().replace("\\\n", " ")
    return re.findall(r"^ {7}(\S.*)$", text, re.MULTILINE)


def run(command, folder):
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_closure_is_what_is_installed_and_needed_and_nothing_else():
    assert set(pins_of(Requirement("rich"))) == RICH
    pins = pins_of(Requirement("fedpact[node]"))
    assert {"fedpact", "flwr", "torch", "polars", "cryptography"} <= set(pins)
    assert pins["torch"] == distribution("torch").version
    assert not {"alembic-postgresql", "pytest", "scikit-learn"} & set(pins)
    assert set(pins_of(Requirement("fedpact"))) < set(pins)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_what_install_txt_says_installs_the_bundle_without_a_network(bundle, tmp_path):
    check, make, install, doctor = commands_of(bundle.out)
    for command in (check, make, install):
        code, text = run(command, bundle.out)
        assert code == 0, text
    python = bundle.out / "fedpact" / "bin" / "python"
    code, text = run(f"{python} -m pip list --format freeze", tmp_path)
    found = {line.split("==")[0].lower() for line in text.splitlines() if "==" in line}
    assert found >= RICH
    assert found - RICH <= {"pip", "setuptools"}
    assert run(f"{python} -c 'import rich.table'", tmp_path)[0] == 0
    assert doctor.startswith("fedpact/bin/fedpact node doctor")


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_another_file_of_the_same_name_is_refused_twice(shelf, tmp_path):
    options = ("--no-index", "--find-links", str(shelf))
    made = write_bundle(tmp_path / "rich", "rich", options)
    (wheel,) = made.out.glob("mdurl-*.whl")
    with zipfile.ZipFile(wheel, "a") as archive:
        archive.writestr("mdurl/more.py", "print('hello')")
    check, make, install, _ = commands_of(made.out)
    assert run(check, made.out)[0] != 0
    assert run(make, made.out)[0] == 0
    code, text = run(install, made.out)
    assert code != 0
    assert "hash" in text.lower()


def test_each_file_is_in_the_sums_and_the_sums_digest_is_told(bundle):
    sums = (bundle.out / SUMS).read_text()
    names = {line.split("  ")[1] for line in sums.splitlines()}
    files = {path.name for path in bundle.out.iterdir() if path.is_file()}
    assert names == files - {SUMS}
    assert hashlib.sha256(sums.encode()).hexdigest() == bundle.digest
    assert bundle.wheels == len(RICH)
    assert bundle.size == sum(path.stat().st_size for path in bundle.out.glob("*.whl"))


def test_versions_are_those_that_run_here_each_with_its_hash(bundle):
    lines = (bundle.out / REQUIREMENTS).read_text().splitlines()
    pins = dict(line.split(" --hash=sha256:")[0].split("==") for line in lines)
    assert pins == {name: distribution(name).version for name in RICH}
    assert all(re.search(r"--hash=sha256:[0-9a-f]{64}$", line) for line in lines)


@pytest.mark.parametrize(
    ("requirement", "code"),
    [
        ("no-such-package", "wheels.not_installed"),
        ("rich<1", "wheels.not_installed"),
        ("rich; or not", "wheels.requirement_invalid"),
    ],
)
def test_what_does_not_run_here_is_not_bundled(tmp_path, requirement, code):
    with pytest.raises(FedError) as error:
        write_bundle(tmp_path / "out", requirement)
    assert error.value.code == code
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FedError) as error:
        write_bundle(tmp_path, "rich")
    assert error.value.code == "wheels.out_taken"
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_where_a_wheel_is_missing_there_is_no_half_a_bundle(shelf, tmp_path):
    partial = tmp_path / "shelf"
    partial.mkdir()
    for wheel in shelf.glob("rich-*.whl"):
        (partial / wheel.name).write_bytes(wheel.read_bytes())
    options = ("--no-index", "--find-links", str(partial))
    with pytest.raises(FedError) as error:
        write_bundle(tmp_path / "out", "rich", options)
    assert error.value.code == "wheels.unavailable"
    assert [path.name for path in tmp_path.iterdir()] == ["shelf"]


@pytest.fixture
def alone(monkeypatch):
    """fedpact as if it needed nothing else: its own wheel is what these tests are about."""
    import clients.wheels

    version = distribution("fedpact").version
    monkeypatch.setattr(clients.wheels, "pins_of", lambda wanted: {"fedpact": version})
    return version


@pytest.mark.slow
def test_fedpact_itself_is_built_from_the_tree_that_it_runs_from(alone, tmp_path):
    made = write_bundle(tmp_path / "out", "fedpact[node]", ("--no-index",))
    (wheel,) = made.out.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith("METADATA")]
        about = message_from_string(archive.read(path).decode())
        assert "clients/wheels.py" in archive.namelist()
    assert (about["Name"], about["Version"]) == ("fedpact", alone)
    assert (made.out / REQUIREMENTS).read_text().startswith(f"fedpact[node]=={alone} --hash=")


def test_a_wheel_of_fedpact_may_be_brought_along(alone, tmp_path):
    wheel = tmp_path / f"fedpact-{alone}-py3-none-any.whl"
    wheel.write_bytes(b"a wheel")
    made = write_bundle(tmp_path / "out", "fedpact", (), wheel)
    assert [path.read_bytes() for path in made.out.glob("*.whl")] == [b"a wheel"]


@pytest.mark.parametrize(
    "name", ["fedpact-0.0.1-py3-none-any.whl", "rich-{}-py3-none-any.whl", "fedpact.whl"]
)
def test_a_wheel_of_another_version_or_package_is_not(alone, tmp_path, name):
    wheel = tmp_path / name.format(alone)
    wheel.write_bytes(b"a wheel")
    with pytest.raises(FedError) as error:
        write_bundle(tmp_path / "out", "fedpact", (), wheel)
    assert error.value.code == "wheels.other_version"
    wheel.unlink()
    with pytest.raises(FedError, match=r"wheels\.other_version"):
        write_bundle(
            tmp_path / "out", "fedpact", (), tmp_path / f"fedpact-{alone}-py3-none-any.whl"
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_base_install_comes_out_of_its_bundle_and_verifies(tmp_path):
    """All that `fedpact verify` needs, fetched once, installed without a network, and called."""
    asked = [sys.executable, "-m", "pip", "download", "--no-deps", "--dest", str(tmp_path / "x")]
    if subprocess.run([*asked, "rfc8785"], capture_output=True, check=False).returncode:
        pytest.skip("pip reaches no index from here, and the wheels must be fetched once")
    made = write_bundle(tmp_path / "bundle", "fedpact")
    *steps, _ = commands_of(made.out)
    for command in steps:
        code, text = run(command, made.out)
        assert code == 0, text
    code, text = run("fedpact/bin/fedpact verify --help", made.out)
    assert (code, "bundle" in text.lower()) == (0, True), text
