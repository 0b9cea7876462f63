"""What the consoles of machines tell that never become nodes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeq.actions.launching import ensure_nodes, observe_pool, pool_of_request
from kubeq.actions.listening import LISTEN_AFTER_S, LISTEN_EVERY_S, Listening, last_words
from kubeq.actions.replacing import Replacing
from kubeq.actions.session import Session
from kubeq.core.model import Pool
from kubeq.errors import BackendError
from tests.jobs import FakeClock, Work
from tests.providers import FakeCloud
from tests.unit.actions.test_machines import configured

BOOTS = "[ 1.2] cloud-init: kubeq: this machine becomes node p-1; it ends at the latest in 60 s\n"
FAILS = f"{BOOTS}curl: 403\n[ 9.8] cloud-init: kubeq: this machine cannot become a node: the agent cannot be fetched\n"


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def far(session: Session, cloud: FakeCloud) -> Session:
    return configured(session, cloud)


@pytest.fixture
def pool(far: Session) -> Pool:
    return pool_of_request(far, private=False)


@pytest.mark.parametrize(
    ("printed", "words"),
    [
        ("", None),
        (BOOTS, None),
        (FAILS, "the agent cannot be fetched"),
        (
            f"{BOOTS}error: no queue\nkubeq: node p-1 has ended with 6, and this machine switches itself off\n",
            "no queue",
        ),
        ("kubeq: node p-1 has ended with 1, and that is all\n", "kubeq: node p-1 has ended with 1, and that is all"),
    ],
)
def test_last_words_are_those_of_a_machine_that_ends(printed: str, words: str | None) -> None:
    assert last_words(printed) == words


def test_each_machine_is_heard_once_and_none_any_more_once_one_has_spoken_to_the_queue(
    far: Session, cloud: FakeCloud, pool: Pool, work: Work, clock: FakeClock
) -> None:
    first, second = ensure_nodes(far, pool, 2)
    cloud.consoles = {first: FAILS, second: FAILS}
    listening = Listening(far, pool)
    assert listening.news() is None, "neither has had the time to fail"
    clock.advance(LISTEN_AFTER_S)
    found = listening.news()
    assert found is not None
    assert (found[0].name, found[1]) == (first, "the agent cannot be fetched")
    assert listening.news() is None, "it has just looked"
    work.report_node(name=second, pool=pool.id)
    clock.advance(LISTEN_EVERY_S)
    assert listening.news() is None
    assert (listening.why(first), listening.why(second)) == ("the agent cannot be fetched", None)


def test_that_a_machine_worked_yesterday_does_not_keep_those_of_today_from_being_heard(
    far: Session, cloud: FakeCloud, pool: Pool, work: Work, clock: FakeClock
) -> None:
    (old,) = ensure_nodes(far, pool, 1)
    work.report_node(name=old, pool=pool.id)
    cloud.nodes.clear()
    clock.advance(24 * 3600)
    (new,) = ensure_nodes(far, pool, 1)
    cloud.consoles = {new: FAILS}
    listening = Listening(far, pool)
    clock.advance(LISTEN_AFTER_S)
    assert listening.news() is not None
    assert listening.why(new) == "the agent cannot be fetched"


def test_a_machine_whose_console_stays_empty_does_not_hide_the_others(
    far: Session, cloud: FakeCloud, pool: Pool, clock: FakeClock
) -> None:
    _, second = ensure_nodes(far, pool, 2)
    cloud.consoles = {second: FAILS}
    listening = Listening(far, pool)
    clock.advance(LISTEN_AFTER_S)
    assert listening.news() is None
    clock.advance(LISTEN_EVERY_S)
    assert listening.news() is not None
    assert listening.why(second) == "the agent cannot be fetched"


def test_why_machines_failed_is_told_though_the_cloud_forgets_them_with_their_consoles(
    far: Session, cloud: FakeCloud, pool: Pool, work: Work, clock: FakeClock
) -> None:
    job = replace(work.submit([("1",)], ["n"], pool=pool.id), nodes=1)
    said: list[str] = []
    tending = Replacing(far, pool, said.append)
    with pytest.raises(BackendError, match=r"3 machines .* without ever working: the agent cannot be fetched"):
        for _ in range(10):
            clock.advance(60)
            tending(job, far.queue.outcomes(job.id), observe_pool(far, pool.id))
            alive = [name for name, (_, seen) in cloud.nodes.items() if seen.alive]
            if any(name in cloud.consoles for name in alive):  # it has been heard, and is gone
                cloud.nodes.clear()
                cloud.consoles.clear()
                clock.advance(130)
            else:
                cloud.consoles = dict.fromkeys(alive, FAILS)
    assert sum("cannot become a node: the agent cannot be fetched" in line for line in said) == 3
