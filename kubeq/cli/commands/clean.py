"""`kubeq clean`: forget jobs, and remove what nobody refers to."""

from __future__ import annotations

import click

from kubeq.cli.global_options import Globals, global_options
from kubeq.cli.job_options import job_argument


@click.command(short_help="Forget jobs that have ended; remove blobs that no job needs.")
@global_options
@click.option("--older", metavar="DURATION", help="Only jobs that ended longer ago than this, e.g. 30d.")
@click.option("--results", is_flag=True, help="Remove their results too.")
@click.option("--force", is_flag=True, help="Also jobs that run, stopped first; with --blobs: unused ones at once.")
@click.option("--blobs", is_flag=True, help="Also remove stored inputs that no job of this queue refers to any more.")
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@job_argument("jobs", many=True, required=False)
@click.pass_obj
def command(
    settings: Globals, jobs: tuple[str, ...], older: str | None, results: bool, force: bool, blobs: bool, dry_run: bool
) -> None:
    """Forget the JOBs, or without JOB every job that has ended, after asking. Their results stay unless --results.

    `kubeq clean --blobs` alone forgets no job; it removes inputs that have been unused for 7 days. Nodes that have been
    gone for a day are forgotten too, with their logs on this machine.
    """
    from kubeq.actions.cleaning import forget_gone_nodes
    from kubeq.cli.cleaning import JobsToClean, clean_blobs, clean_jobs_of

    if jobs or not blobs or older is not None or results:
        clean_jobs_of(settings, JobsToClean(texts=jobs, older=older, results=results, force=force), dry_run)
    if blobs:
        clean_blobs(settings, force, dry_run)
    if not dry_run:
        forget_gone_nodes(settings.session)
