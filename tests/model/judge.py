"""What must hold: every write is judged against `oracle`, every answer against what was written."""

from __future__ import annotations

from dataclasses import replace

from kubeq.core.model import Ending, JobId, TaskId
from kubeq.errors import KubeqError
from kubeq.queue.base import Row
from kubeq.queue.claims import Claimed, Grant
from kubeq.queue.queue import Changed
from kubeq.queue.rows import job_of, jobs_of, tasks_of
from tests.model import oracle
from tests.model.calls import Call, Request
from tests.model.oracle import Violation
from tests.model.world import POOL, Agent, Submission, World


class Judge:
    """Watches one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._node_numbers: set[int] = set()
        self._pins: dict[JobId, str] = {}

    def check(self) -> None:
        """The invariants of every moment."""
        for submission in self._world.jobs.values():
            states: dict[str, int] = {}
            for row in self._world.task_rows(submission.job.id):
                oracle.require_sound(f"{submission.job.id}/{row.key.name}", row, submission.limits)
                tally = str(row.tally)
                states[tally] = states.get(tally, 0) + 1
            _require(
                dict(self._world.table.count(tasks_of(submission.job.id), True)) == states,
                f"the count of {submission.job.id} is not what its rows say: {states}",
            )

    def changed(self, old: Row | None, new: Row | None, request: Request, call: Call) -> None:
        """Judge one row that has changed."""
        row = new or old
        assert row is not None
        _require(new is not None, f"a {call.kind} deleted {row.key}")
        assert new is not None
        _require(new.version == (old.version + 1 if old else 1), f"a version did not grow by one: {old} -> {new}")
        if row.key.partition == jobs_of(POOL):
            self._judge_job(old, new, call)
        elif row.key.partition.startswith("job/"):
            submission = self._world.jobs[JobId(row.key.partition.removeprefix("job/"))]
            if old is None:
                self._judge_new_task(submission, new, call)
            else:
                self._judge_task(submission, old, new, request, call)

    def _judge_job(self, old: Row | None, new: Row, call: Call) -> None:
        before, after = (job_of(old) if old else None), job_of(new)
        gates = {"sealed_at": None, "paused": False, "cancelled": False, "open": True, "closed_at": None}
        wanted = self._world.jobs[after.id].job
        other = replace(after, nodes=wanted.nodes, **gates)  # type: ignore[arg-type]
        _require(other == wanted, f"a {call.kind} changed more than the gates: {after}")
        nodes = before.nodes if before else wanted.nodes
        _require(
            after.nodes == (call.facts["nodes"] if call.kind == "set_nodes" else nodes),
            f"a {call.kind} changed how many nodes {after.id} is to have from {nodes} to {after.nodes}",
        )
        rows = len(self._world.task_rows(after.id))
        _require(after.sealed_at is None or rows == wanted.total, f"{after.id} was sealed with {rows} tasks")
        if after.cancelled and not (before and before.cancelled):
            self._world.jobs[after.id].marked = self._world.changes
        if before is not None and before.sealed_at is not None:
            _require(after.sealed_at == before.sealed_at, f"a {call.kind} changed the seal of {after.id}")

    def _judge_new_task(self, submission: Submission, new: Row, call: Call) -> None:
        index, task = int(new.key.name), oracle.read(new)
        row = self._world.job_row(submission.job.id)
        _require(row is not None, f"{new.key} was written before its job")
        _require(call.kind == "submit" and 1 <= index <= submission.job.total, f"a {call.kind} made {new}")
        _require((task.state, task.attempt) == ("pending", 0), f"a new task is not fresh: {new}")
        submission.wanted[index] = submission.meant[index] = 0  # a kill of the job covers what is submitted after it
        submission.inserted[index] = self._world.changes

    def _judge_task(self, submission: Submission, old: Row, new: Row, request: Request, call: Call) -> None:
        before, after, index = oracle.read(old), oracle.read(new), int(new.key.name)
        options = self._options(submission, index, before, request, call)
        if not any(not oracle.mismatches(option, after) for option in options):
            wrong = {option.event: oracle.mismatches(option, after) for option in options}
            raise Violation(f"a {call.kind} may not make {before} into {after}: {wrong or 'nothing is allowed'}")
        if after.attempt > before.attempt:
            self._judge_grant(submission, index, after, call)
        if call.kind in ("retry", "reset"):
            submission.wanted[index] = self._world.changes
            submission.meant[index] = call.started

    def _judge_grant(self, submission: Submission, index: int, after: oracle.Facts, call: Call) -> None:
        nonce = after.nonce or ""
        number = (index, after.attempt)
        _require(number not in submission.attempts, f"attempt {number} of {submission.job.id} was granted twice")
        submission.attempts[number] = nonce
        row = self._world.job_row(submission.job.id)
        sealed = row is not None and job_of(row).sealed_at is not None
        _require(sealed, f"a task of the unsealed job {submission.job.id} was claimed")
        agent: Agent = call.facts["agent"]
        _require(after.attempts[-1]["node"] == agent.name, f"a claim is in another's name: {after}")
        agent.made[nonce] = (TaskId(submission.job.id, index), self._world.changes)
        _require(
            max(submission.wanted[index], submission.inserted[index]) > submission.killed,
            f"{submission.job.id}/{index} was claimed after the kill",
        )

    def _options(
        self, submission: Submission, index: int, before: oracle.Facts, request: Request, call: Call
    ) -> list[oracle.Expected]:
        """What the call may make of the task, by the table of the architecture."""
        limits, facts = submission.limits, call.facts
        earliest, latest = request.earliest, request.latest
        killed = submission.marked > submission.meant[index]
        match call.kind:
            case "claim":
                sweeping = oracle.sweep(before, limits, latest, killed=killed)
                return [*oracle.claims(before, limits, earliest, latest), *sweeping]
            case "sweep":
                return list(oracle.sweep(before, limits, latest, killed=killed))
            case "renew" | "finish":
                held = [
                    grant
                    for grant in facts["grants"]
                    if grant.task.id == TaskId(submission.job.id, index) and _nonce(grant) == before.nonce
                ]
                if not held or before.state != "claimed" or held[0].attempt != before.attempt:
                    return []
                if call.kind == "renew":
                    return [oracle.renewal(before, limits, earliest, latest)]
                ending, reason = facts["ending"].value, "exit" if facts["ending"] is Ending.FAILED else None
                return [oracle.end(before, ending, reason, limits, facts["ended_at"])]
            case "cancel_job":
                return list(oracle.cancel(before))
            case "cancel_tasks" if index in facts["indexes"]:
                return list(oracle.cancel(before))
            case "retry" if index in facts["indexes"]:
                return list(oracle.again(before, latest, reset=False, succeeded=False, force=False))
            case "reset" if index in facts["indexes"]:
                flags = {"succeeded": facts["succeeded"], "force": facts["force"]}
                return list(oracle.again(before, latest, reset=True, **flags))
            case _:
                return []

    # -- what they were told ------------------------------------------------------------------------------------------

    def ended(self, call: Call) -> None:
        """Judge what a call was answered in the end."""
        if call.error is not None:
            if not isinstance(call.error, KubeqError):
                raise Violation(f"a {call.kind} broke: {call.error!r}") from call.error
            _require(call.faults > 0, f"a {call.kind} failed although nothing went wrong: {call.error!r}")
            return
        match call.kind:
            case "claim":
                self._told_claim(call)
            case "renew":
                self._told_renew(call)
            case "finish":
                self._told_finish(call)
            case "cancel_job":
                self._told_cancel_job(call)
            case "retry" | "reset":
                self._told_again(call)
            case "set_nodes":
                row = self._world.job_row(call.facts["job"])
                nodes = job_of(row).nodes if row else None
                _require(call.disturbed or nodes == call.facts["nodes"], f"a set_nodes left {nodes} nodes in the row")
            case "number":
                numbers = set(call.answer)
                _require(len(numbers) == 2 and not numbers & self._node_numbers, f"node numbers came twice: {numbers}")
                self._node_numbers |= numbers
            case "pin":
                standing = self._pins.setdefault(call.facts["job"], call.answer)
                _require(standing == call.answer, f"a job has two pins: {standing} and {call.answer}")

    def _told_claim(self, call: Call) -> None:
        agent, answer = call.facts["agent"], call.answer
        assert isinstance(agent, Agent)
        assert isinstance(answer, Claimed)
        for grant in answer.grants:
            nonce = _nonce(grant)
            known = self._world.jobs[grant.job.id].attempts.get((grant.task.id.index, grant.attempt))
            _require(known == nonce, f"a grant was never made: {grant}")
            _require(nonce not in agent.granted, f"an agent was granted the same attempt twice: {grant}")
            agent.granted.add(nonce)
            self._world.grants.append((agent, grant))
        if call.faults:
            return
        for nonce, (task, change) in agent.made.items():
            if nonce not in agent.granted and change <= call.started:
                row = self._world.row(task)
                holds = row is not None and oracle.read(row).state == "claimed" and oracle.read(row).nonce == nonce
                _require(not holds, f"{agent.name} holds {task} and was not told, though nothing went wrong")

    def _told_renew(self, call: Call) -> None:
        for grant, answer in zip(call.facts["grants"], call.answer, strict=True):
            row = self._world.row(grant.task.id)
            assert row is not None
            task = oracle.read(row)
            if not call.disturbed:
                holds = task.state == "claimed" and task.nonce == _nonce(grant)
                _require(holds == (answer is not None), f"a renewal of {grant} got {answer} where there is {row}")
                told = answer is None or answer.task.cancel_asked == task.asked
                _require(told, f"a renewal did not tell of the cancel: {answer}, {row}")
            if answer is not None:
                self._world.grants.append((call.facts["agent"], answer))

    def _told_finish(self, call: Call) -> None:
        ending: Ending = call.facts["ending"]
        stops = {Ending.RELEASED, Ending.CANCELLED}
        same = {each.value for each in (stops if ending in stops else {ending})}
        for grant, answer in zip(call.facts["grants"], call.answer, strict=True):
            row = self._world.row(grant.task.id)
            assert row is not None
            mine = [attempt for attempt in oracle.read(row).attempts if attempt["nonce"] == _nonce(grant)]
            recorded = bool(mine) and mine[0].get("ending") in same
            fair = recorded == (answer is not None) or (call.disturbed and answer is None)
            _require(fair, f"a finish as {ending} of {grant} got {answer} where there is {row}")

    def _told_cancel_job(self, call: Call) -> None:
        submission = self._world.jobs[call.facts["job"]]
        for row in self._world.task_rows(submission.job.id):
            task = oracle.read(row)
            index = int(row.key.name)
            if max(submission.wanted[index], submission.inserted[index]) <= call.started:
                _require(task.state != "pending", f"a task is pending after the kill: {row}")
                _require(task.state != "claimed" or task.asked, f"a task goes on after the kill: {row}")
        submission.killed = max(submission.killed, call.started)

    def _told_again(self, call: Call) -> None:
        answer = call.answer
        assert isinstance(answer, Changed)
        asked = sorted(set(call.facts["indexes"]))
        told = sorted([*answer.changed, *(index for index, _ in answer.unchanged)])
        _require(told == asked, f"a {call.kind} of {asked} was answered {answer}")
        row = self._world.job_row(call.facts["job"])
        assert row is not None
        if answer.changed:
            _require(job_of(row).open and not job_of(row).cancelled, f"the job is not open after a {call.kind}: {row}")


def _nonce(grant: Grant) -> str:
    assert grant.task.current is not None
    return grant.task.current.nonce


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise Violation(otherwise)
