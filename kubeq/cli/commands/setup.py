"""`kubeq setup`: make what the configuration needs in a cloud."""

from __future__ import annotations

from pathlib import Path

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import FilePath


@click.command(short_help="Make what the configuration needs in a cloud.")
@global_options
@click.option("--dry-run", is_flag=True, help="Only say what stands and what would be made.")
@click.option(
    "--write-config",
    metavar="[FILE]",
    is_flag=False,
    flag_value=".kubeq",
    type=FilePath(),
    help="Write a configuration file that says where it all is. FILE is .kubeq here if it is not given.",
)
@click.pass_obj
def command(settings: Globals, dry_run: bool, write_config: Path | None) -> None:
    """Make the bucket and the table that the configuration names, unless they stand, and show the least that the
    identity of a node needs to be allowed. With machines of EC2, make that identity too (a role in an instance profile,
    `node_identity`), and show what whoever starts machines needs. May be repeated.

    `kubeq setup -o default_url_prefix=s3://BUCKET/kubeq -o region=REGION --write-config` begins with nothing.
    """
    from kubeq.actions.backplane import check_reach
    from kubeq.actions.policies import policy_of
    from kubeq.actions.provisioning import (
        asked_of,
        launch_grant,
        naming_identity,
        node_policies,
        provisioners_of,
        set_up,
        with_identity,
    )
    from kubeq.cli.views_setup import SetupView
    from kubeq.config.writing import write_config as write

    config = naming_identity(settings.config)
    check_reach(config, settings.open_session(config).provider.capabilities)
    provisioners = with_identity(provisioners_of(config), config, policy_of)
    settings.counted[:] = [lambda: asked_of(provisioners, config)]
    path = None if write_config is None else config.place.base / write_config
    if path is not None and not dry_run:
        write(config, path)
    provisions = list(set_up(provisioners, dry_run=dry_run))
    policies = node_policies(provisioners, config, policy_of)  # of what was seen to stand
    launching = launch_grant(config)
    settings.output.show(
        SetupView(
            provisions=provisions,
            embedded=[url for url, provisioner in provisioners.items() if provisioner is None],
            policies=policies,
            launching=None if launching is None else policy_of(launching),
            dry_run=dry_run,
            path=path,
        )
    )
