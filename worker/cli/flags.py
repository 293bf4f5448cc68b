"""Command-line flags made from the Settings model: every setting is a flag of every command that takes settings."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from worker import logs
from worker.settings import Settings, env_name, load_settings


def with_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Replace a command's `settings: Settings` parameter by one optional flag per setting.

    The settings are loaded (flags win over the environment) and the logs set up before the command runs.
    SettingsError from bad ones goes to the caller.
    """
    hints = get_type_hints(command, include_extras=True)
    own = [parameter for parameter in inspect.signature(command).parameters.values() if parameter.name != "settings"]
    own = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    flags = [_flag(field) for field in Settings.model_fields]

    @functools.wraps(command)
    def run(**arguments: Any) -> None:
        given = {field: arguments.pop(field) for field in Settings.model_fields}
        settings = load_settings(given)
        logs.configure(settings)
        command(settings=settings, **arguments)

    # Typer reads the signature and, separately, the annotations of what it is given.
    parameters = [*own, *flags]
    run.__signature__ = inspect.Signature(parameters, return_annotation=None)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters} | {"return": None}
    del run.__wrapped__
    return run


def _flag(field: str) -> inspect.Parameter:
    info = Settings.model_fields[field]
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    flag = "--" + field.replace("_", "-")
    is_switch = info.annotation is bool
    option = typer.Option(
        f"{flag}/--no-{flag[2:]}" if is_switch else flag,
        help=info.description,
        envvar=env_name(field),
        # The model has the default; here None means "not given", so that the environment can speak.
        show_default=str(info.default) if info.default is not None else False,
        metavar=None if is_switch else "VALUE",
        rich_help_panel=f"Settings: {extra['group']}",
    )
    kind = bool | None if is_switch else str | None
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
