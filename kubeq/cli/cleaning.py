"""`clean` at the screen: what would go is asked about, then removed, then shown. What may go is in `actions`."""

from __future__ import annotations

from dataclasses import dataclass

from kubeq.actions.cleaning import clean_jobs, plan_clean
from kubeq.actions.unused_blobs import GRACE_S, find_unused, remove_unused
from kubeq.cli.asking import confirm
from kubeq.cli.global_options import Globals
from kubeq.cli.shown import count
from kubeq.cli.views_changes import BlobsView, CleanView
from kubeq.core.quantities import format_size, parse_duration
from kubeq.core.selectors import is_glob


@dataclass(frozen=True, slots=True, kw_only=True)
class JobsToClean:
    """The jobs as typed (none: every one), how long ago they must have ended, and what goes with them."""

    texts: tuple[str, ...]
    older: str | None
    results: bool
    force: bool


def clean_jobs_of(settings: Globals, wanted: JobsToClean, dry_run: bool) -> None:
    """Forget those jobs, after asking where not each was named or results go too."""
    session = settings.session
    age = None if wanted.older is None else parse_duration(wanted.older)
    plan = plan_clean(session, wanted.texts, older_s=age, force=wanted.force)
    if plan.jobs and not dry_run:
        named = bool(wanted.texts) and not any(is_glob(text) for text in wanted.texts)
        what = "with all results" if wanted.results else "(the results stay)"
        question = f"forget {count(len(plan.jobs), 'job')} {what}?"
        if (wanted.results or not named) and not confirm(settings, question):
            settings.output.note("nothing was removed")
            return
        clean_jobs(session, plan, results=wanted.results)
    settings.output.show(CleanView(plan, results=wanted.results, only=dry_run))


def clean_blobs(settings: Globals, force: bool, dry_run: bool) -> None:
    """Remove the blobs that no job of this queue needs, after asking."""
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
