"""Reading a TOML file into a frozen settings class; errors name the file and the field."""

import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedcore.errors import InvalidRecordError
from fedcore.named_files import cause_of
from fedcore.record import first_problem

S = TypeVar("S", bound=BaseModel)


def load_toml(path: Path, kind: type[S]) -> S:
    """Return the settings of a TOML file.

    Raises: InvalidRecordError `settings.unreadable` or `settings.invalid`, naming the field.
    """
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidRecordError(
            "settings.unreadable",
            f"cannot read the settings file {path}: {cause_of(error)}",
            str(error),
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRecordError(
            "settings.unreadable", f"cannot read the settings file {path}", str(error)
        ) from error
    try:
        return kind(**values)
    except ValidationError as error:
        raise InvalidRecordError(
            "settings.invalid", f"settings {path.name}: {first_problem(error)}"
        ) from error
