"""`kubeq completion`: what a shell needs to complete kubeq's words."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options

SHELLS = ("bash", "zsh", "fish")


@click.command(short_help="Print the completion script for bash, zsh or fish.")
@global_options
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_obj
def command(settings: Globals, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and the names of jobs.

    \b
    bash: eval "$(kubeq completion bash)"   in ~/.bashrc
    zsh:  eval "$(kubeq completion zsh)"    in ~/.zshrc
    fish: kubeq completion fish > ~/.config/fish/completions/kubeq.fish
    """
    from click.shell_completion import get_completion_class

    from kubeq.cli.main import COMPLETE, cli

    kind = get_completion_class(shell)
    assert kind is not None
    settings.output.raw(f"{kind(cli, {}, 'kubeq', COMPLETE).source()}\n".encode())
