"""`backup` and `restore`: a file that brings the service back, elsewhere as well."""


def test_a_service_is_backed_up_and_restored_by_commands(run, tmp_path):
    home, file = tmp_path / "office", tmp_path / "office.backup"
    assert run("init", "-d", home)[0] == 0
    settings = home / "governance.toml"
    code, output = run("backup", "-s", settings, file)
    assert (code, file.exists()) == (0, True), output
    assert "with the log at 0 entries" in output
    code, output = run("restore", "-s", settings, file)
    assert code == 1
    assert "database.not_empty" in output
    text = settings.read_text()
    moved = home / "moved.toml"
    moved.write_text(text.replace("governance.db", "restored.db"))
    assert moved.read_text() != text
    code, output = run("restore", "-s", moved, file)
    assert code == 0, output
    assert "restored and verified" in output
    assert (home / "restored.db").exists()
