"""`kubeq clean`: forget jobs, and remove what nobody refers to."""

from __future__ import annotations

import click

from kubeq.cli.asking import confirm
from kubeq.cli.job_options import job_argument
from kubeq.cli.main import Globals, global_options


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

    `kubeq clean --blobs` alone forgets no job; it removes inputs that have been unused for 7 days.
    """
    if jobs or not blobs or older is not None or results:
        _clean_jobs(settings, jobs, older, results, force, dry_run)
    if blobs:
        _clean_blobs(settings, force, dry_run)


def _clean_jobs(
    settings: Globals, jobs: tuple[str, ...], older: str | None, results: bool, force: bool, dry_run: bool
) -> None:
    from kubeq.actions.cleaning import clean_jobs, plan_clean
    from kubeq.cli.shown import count
    from kubeq.cli.views_changes import CleanView
    from kubeq.core.quantities import parse_duration
    from kubeq.core.selectors import is_glob

    session = settings.session
    age = None if older is None else parse_duration(older)
    plan = plan_clean(session, jobs, older_s=age, force=force)
    if plan.jobs and not dry_run:
        named = bool(jobs) and not any(is_glob(text) for text in jobs)
        what = "with all results" if results else "(the results stay)"
        question = f"forget {count(len(plan.jobs), 'job')} {what}?"
        if (results or not named) and not confirm(settings, question):
            settings.output.note("nothing was removed")
            return
        clean_jobs(session, plan, results=results)
    settings.output.show(CleanView(plan, results=results, only=dry_run))


def _clean_blobs(settings: Globals, force: bool, dry_run: bool) -> None:
    from kubeq.actions.unused_blobs import GRACE_S, find_unused, remove_unused
    from kubeq.cli.shown import count
    from kubeq.cli.views_changes import BlobsView
    from kubeq.core.quantities import format_size

    session = settings.session
    unused = find_unused(session, grace_s=0.0 if force else GRACE_S)
    size = sum(digest.size for digest in unused.ripe)
    if unused.ripe and not dry_run:
        found = f"{count(len(unused.ripe), 'blob')} ({format_size(size)})"
        if not confirm(settings, f"remove {found} that no job of {session.config.queue_url} refers to?"):
            settings.output.note("no blob was removed")
            return
        remove_unused(session, unused)
    settings.output.show(
        BlobsView(
            removed=len(unused.ripe),
            removed_bytes=size,
            waiting=len(unused.young),
            waiting_bytes=sum(digest.size for digest in unused.young),
            only=dry_run,
        )
    )
