"""The options that every command takes, before or after its name, and what is made from them for the whole run."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from kubeq.cli.output import Mode, Output
from kubeq.errors import UsageError

if TYPE_CHECKING:
    from kubeq.actions.session import Session
    from kubeq.config import Config

F = TypeVar("F", bound=Callable[..., Any])


class Globals:
    """The global options, wherever on the line they stood; a later one wins."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.counted: list[Callable[[], object]] = []
        """What tells the requests made so far, of everything that was opened."""

    def set(self, name: str, value: Any) -> None:
        if name == "set":
            self.values["set"] = (*self.values.get("set", ()), *value)
        else:
            self.values[name] = value

    @property
    def mode(self) -> Mode:
        """The output mode, from the flags or KUBEQ_OUTPUT. Raises UsageError."""
        text = self.values.get("output") or os.environ.get("KUBEQ_OUTPUT") or Mode.TEXT.value
        try:
            return Mode(text)
        except ValueError:
            raise UsageError(
                f"there is no output mode {text!r}", hint="the modes are text, json, csv and quiet"
            ) from None

    @cached_property
    def output(self) -> Output:
        color = self.values.get("color") or os.environ.get("KUBEQ_COLOR") or "auto"
        return Output(self.mode, color={"always": True, "never": False}.get(color))

    @property
    def yes(self) -> bool:
        return bool(self.values.get("yes"))

    @cached_property
    def config(self) -> Config:
        """The effective configuration; its notes are printed once."""
        from kubeq.config import load_config

        try:
            here = Path.cwd()
        except FileNotFoundError:
            raise UsageError("the current directory does not exist any more", hint="cd to one that does") from None
        try:
            home = Path.home()
        except RuntimeError:
            raise UsageError("this user has no home directory that is known", hint="set HOME to one") from None
        config = load_config(
            file=self.values.get("config"),
            profile=self.values.get("profile"),
            overrides=self.values.get("set", ()),
            environ=os.environ,
            cwd=here,
            home=home,
        )
        for note in config.notes:
            self.output.warn(note)
        return config

    @cached_property
    def session(self) -> Session:
        from kubeq.actions.relaying import revive_relay

        session = self.open_session(self.config)
        session.check()
        revive_relay(session)
        return session

    def open_session(self, config: Config) -> Session:
        """A session of that configuration, whose requests are told in the end."""
        from kubeq.actions.session import Session

        session = Session(config)
        self.counted.append(lambda: session.requests)
        return session


def global_options(command: F) -> F:
    """The options that every command takes, before or after its name."""

    def remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
        if value is None or value == () or value is False or value == 0:
            return
        fixed = {"json": ("output", "json"), "csv": ("output", "csv"), "quiet": ("output", "quiet")}
        assert parameter.name is not None
        name, value = fixed.get(parameter.name, (parameter.name, value))
        context.ensure_object(Globals).set(name, value)

    def option(*names: str, **more: Any) -> Callable[[F], F]:
        return click.option(*names, callback=remember, expose_value=False, is_eager=True, **more)

    for decorate in (
        option("-c", "--config", type=click.Path(path_type=Path), help="Configuration file to use."),
        option("-P", "--profile", help="Profile of the configuration file to use."),
        option("-o", "--set", multiple=True, metavar="KEY=VALUE", help="Set one configuration key for this run."),
        option("--output", type=click.Choice([mode.value for mode in Mode]), help="Form of the answer."),
        option("--json", is_flag=True, help="Same as --output json."),
        option("--csv", is_flag=True, help="Same as --output csv (tables only)."),
        option("-q", "--quiet", is_flag=True, help="Same as --output quiet: ids only."),
        option("-v", "--verbose", count=True, help="Say more; twice: everything, and the requests made."),
        option("--color", type=click.Choice(["auto", "always", "never"]), help="Colours on stderr."),
        option("-y", "--yes", is_flag=True, help="Answer every question with yes."),
    ):
        command = decorate(command)
    return command
