"""Tell people what they are to know: one pass, for cron or a systemd timer."""

import typer

from fedcore.errors import ConflictError, InvalidRecordError
from fedcore.tomlfile import load_toml
from governance.commands.options import SettingsPath
from governance.settings import GovernanceSettings


def notify(settings: SettingsPath) -> None:
    """Look once for what people are to be told, and send what has not arrived yet."""
    from governance.app import utc_now
    from governance.notice_settings import NoticeSettings
    from governance.notices import notify as make_pass
    from governance.receivers import open_receivers
    from registry.database import Database

    loaded = load_toml(settings, GovernanceSettings)
    if loaded.notices is None:
        raise InvalidRecordError(
            "notice.not_configured", "the settings name no file of `notices`: write one"
        )
    wishes = load_toml(loaded.notices, NoticeSettings)
    receivers = open_receivers(wishes)
    database = Database(loaded.database_url)
    try:
        done = make_pass(database, wishes.terms, receivers, utc_now)
    finally:
        database.close()
    typer.echo(f"{done.noticed} new, {done.sent} sent")
    if done.failed:
        raise ConflictError(
            "notice.not_taken", f"{done.failed} of {len(receivers)} receivers did not take a notice"
        )
