from importlib.metadata import distribution

from clients.wheels import REQUIREMENTS, SUMS


def test_options_after_two_dashes_go_to_pip_and_the_sums_digest_is_printed(node, tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    version = distribution("mdurl").version
    (shelf / f"mdurl-{version}-py3-none-any.whl").write_bytes(wheel_of("mdurl", version))
    code, text = node(
        "bundle", "--out", tmp_path / "out", "--requirement", "mdurl",
        "--", "--no-index", "--find-links", shelf,
    )  # fmt: skip
    assert code == 0, text
    assert "1 wheels" in text
    assert f"{SUMS} has sha256 " in text
    assert (tmp_path / "out" / REQUIREMENTS).read_text().startswith(f"mdurl=={version} --hash=")


def wheel_of(name, version):
    """The least that pip takes for a wheel."""
    import io
    import zipfile

    buffer = io.BytesIO()
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        archive.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{about}/RECORD", "")
    return buffer.getvalue()


def test_a_refusal_has_its_code_and_leaves_no_folder(node, tmp_path):
    code, text = node("bundle", "--out", tmp_path / "out", "--requirement", "no-such-package")
    assert code == 1
    assert "(wheels.not_installed)" in text
    assert not (tmp_path / "out").exists()
