"""`kubeq config`: the effective configuration and where each value comes from."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.errors import NotFound


@click.command(short_help="Show the configuration and where each value comes from.")
@global_options
@click.option("--profiles", is_flag=True, help="Only the names of the file's profiles.")
@click.argument("key", required=False)
@click.pass_obj
def command(settings: Globals, key: str | None, profiles: bool) -> None:
    """Show every key with its value and origin, or the value of KEY alone."""
    from difflib import get_close_matches

    from kubeq.cli.views_config import ProfilesView, SettingsView, SettingView
    from kubeq.config import settings as all_settings

    config = settings.config
    if profiles:
        settings.output.show(ProfilesView(config.profiles, config.profile))
        return
    found = all_settings(config)
    if key is None:
        settings.output.show(SettingsView(found, None if config.path is None else str(config.path)))
        return
    name = key.lower().replace("-", "_")
    for each in found:
        if each.name == name:
            settings.output.show(SettingView(each))
            return
    near = get_close_matches(name, [each.name for each in found], n=1, cutoff=0.7)
    raise NotFound(f"there is no key {key!r}", hint=f"did you mean {near[0]}?" if near else "kubeq config lists them")
