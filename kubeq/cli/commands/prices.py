"""`kubeq prices`: what machines cost."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options


@click.command(short_help="What machines of a cloud cost.")
@global_options
@click.option("--refresh", is_flag=True, help="First ask the cloud for today's prices in the region.")
@click.argument("types", metavar="[TYPE...]", nargs=-1)
@click.pass_obj
def command(settings: Globals, refresh: bool, types: tuple[str, ...]) -> None:
    """What each TYPE (default: those whose price is known) costs an hour in the region of the configuration, in US
    dollars, and how old that knowledge is. A table of some regions comes with kubeq; of others nothing is known until
    `--refresh` asks. Spot prices on EC2 change all day and are asked for when machines are started.
    """
    from kubeq.actions.prices import known_prices, refresh_prices
    from kubeq.cli.views_prices import PricesView

    session = settings.open_session(settings.config)
    if refresh:
        refresh_prices(session)
    settings.output.show(PricesView(known_prices(session, types)))
