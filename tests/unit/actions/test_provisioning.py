"""Setting up: what is made and what is left alone, what a node may do, and the file that is written."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import pytest

from kubeq.actions.policies import policy_of
from kubeq.actions.provisioning import (
    State,
    asked_of,
    launch_grant,
    naming_identity,
    node_grants,
    node_policies,
    provisioners_of,
    set_up,
    with_identity,
)
from kubeq.cli.views_setup import SetupView
from kubeq.config import Config, load_config, settings
from kubeq.config.writing import config_text, write_config
from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import BackendError, Conflict
from kubeq.metering import added


@dataclass
class Account:
    """A cloud in which things come to stand."""

    standing: set[tuple[str, str]] = field(default_factory=set)
    created: list[tuple[str, str]] = field(default_factory=list)


class Bucket:
    """A provisioner of a bucket and of a rule for a prefix in it."""

    cloud: ClassVar[str] = "aws"

    def __init__(self, account: Account, name: str, prefix: str) -> None:
        self._account = account
        self._name = name
        self._prefix = prefix
        self.requests: Mapping[str, int] = {}

    def survey(self) -> Sequence[Piece]:
        self.requests = added(self.requests, {"HeadBucket": 1})

        def piece(kind: str, about: str, mark: str) -> Piece:
            return Piece(kind=kind, name=self._name, stands=(kind, mark) in self._account.standing, about=about)

        return [piece("bucket", "in eu-west-1", ""), piece("rule", "removes leftovers", self._prefix)]

    def create(self, piece: Piece) -> None:
        if piece.kind == "rule" and ("bucket", "") not in self._account.standing:
            raise BackendError("there is no bucket yet")
        mark = (piece.kind, "" if piece.kind == "bucket" else self._prefix)
        self._account.standing.add(mark)
        self._account.created.append(mark)

    def node_permissions(self) -> Sequence[Permission]:
        return [
            Permission(actions=("s3:GetObject", "s3:PutObject"), resources=(f"arn:{self._name}/{self._prefix}*",)),
            Permission(actions=("s3:ListBucket",), resources=(f"arn:{self._name}",)),
        ]


class Table:
    """A provisioner of Google's."""

    cloud: ClassVar[str] = "gcp"
    requests: ClassVar[Mapping[str, int]] = {"databases.get": 1}

    def survey(self) -> Sequence[Piece]:
        return [Piece(kind="database", name="(default)", stands=True, about="in eur3")]

    def create(self, piece: Piece) -> None:
        raise AssertionError("it stands")

    def node_permissions(self) -> Sequence[Permission]:
        return [Permission(actions=("datastore.entities.get",), resources=("//x/projects/lab",))]


def account_of(account: Account) -> dict[str, Bucket | Table | None]:
    return {
        "s3://b/results": Bucket(account, "b", "results/"),
        "s3://b/cas": Bucket(account, "b", "cas/"),
        "sqlite:q.db": None,
        "datastore://lab": Table(),
    }


def test_what_is_missing_is_made_in_its_order_and_the_second_time_nothing() -> None:
    account = Account()
    first = list(set_up(account_of(account), dry_run=False))
    assert account.created == [("bucket", ""), ("rule", "results/"), ("rule", "cas/")]
    assert [(each.piece.kind, each.url, each.state) for each in first] == [
        ("bucket", "s3://b/results", State.CREATED),
        ("rule", "s3://b/results", State.CREATED),
        ("rule", "s3://b/cas", State.CREATED),
        ("database", "datastore://lab", State.STANDS),
    ]
    again = list(set_up(account_of(account), dry_run=False))
    assert len(account.created) == 3
    assert {each.state for each in again} == {State.STANDS}


def test_the_requests_of_all_stores_are_added_and_told_apart_from_those_of_the_queue(tmp_path: Path) -> None:
    provisioners = account_of(Account())
    list(set_up(provisioners, dry_run=True))
    config = load_config(
        file=None, profile=None, overrides=("queue_url=datastore://lab",), environ={}, cwd=tmp_path, home=tmp_path
    )
    asked = asked_of(provisioners, config)
    assert (asked.queue, asked.store) == ({"databases.get": 1}, {"HeadBucket": 2})


def test_a_dry_run_makes_nothing_and_tells_each_piece_once() -> None:
    account = Account()
    told = list(set_up(account_of(account), dry_run=True))
    assert account.created == []
    assert [(each.piece.kind, each.state) for each in told] == [
        ("bucket", State.MISSING),
        ("rule", State.MISSING),
        ("database", State.STANDS),
    ]


def test_what_a_node_may_do_is_told_in_the_words_of_each_cloud() -> None:
    aws, google = node_grants(account_of(Account()))
    assert policy_of(aws) == {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Action": ["s3:GetObject", "s3:PutObject"],
                "Resource": ["arn:b/results/*", "arn:b/cas/*"],
            },
            {"Effect": "Allow", "Action": ["s3:ListBucket"], "Resource": ["arn:b"]},
        ],
    }
    (role,) = policy_of(google)["roles"]
    assert role["role"]["includedPermissions"] == ["datastore.entities.get"]
    assert role["resources"] == ["//x/projects/lab"]


def test_the_answer_shows_what_was_made_and_the_policy() -> None:
    account = Account()
    provisioners = account_of(account)
    view = SetupView(
        provisions=list(set_up(provisioners, dry_run=False)),
        embedded=["sqlite:q.db"],
        policies={grant.cloud: policy_of(grant) for grant in node_grants(provisioners)},
        dry_run=False,
        path=Path("/home/me/.kubeq"),
    )
    text = list(view.text())
    assert [line.split() for line in text[1:4]] == [
        ["bucket", "b", "created", "in", "eu-west-1"],
        ["rule", "b", "created", "removes", "leftovers"],
        ["rule", "b", "created", "removes", "leftovers"],
    ]
    assert "nothing has to be made for sqlite:q.db" in text
    start = text.index("The least that the identity of a node needs in AWS:") + 1
    assert json.loads("\n".join(text[start : text.index("", start)])) == view.json()["policies"]["aws"]
    assert list(view.quiet()) == ["b", "b", "b"]
    assert view.json()["pieces"][3] == {
        "kind": "database", "name": "(default)", "state": "stands", "about": "in eur3", "url": "datastore://lab",
    }  # fmt: skip
    assert view.json()["written"] == "/home/me/.kubeq"


def test_what_is_embedded_needs_nobody_to_make_it(tmp_path: Path) -> None:
    config = loaded(tmp_path)
    assert provisioners_of(config) == {config.store_url: None, config.queue_url: None}


def test_machines_of_ec2_get_an_identity_that_may_do_what_their_store_and_queue_need_and_no_more(
    tmp_path: Path,
) -> None:
    asked = ("default_url_prefix=s3://bucket/me", "region=eu-west-1")
    config = naming_identity(loaded(tmp_path, *asked))
    assert (config.provider, config.node_identity) == ("ec2", "kubeq-node")
    found = list(with_identity(provisioners_of(config), config, policy_of))
    assert found == [config.store_url, config.queue_url, "ec2:kubeq-node"]
    grant = launch_grant(config)
    assert grant is not None
    assert "arn:aws:iam::*:role/kubeq-node" in json.dumps(policy_of(grant))
    assert "node_identity = kubeq-node" in config_text(config)
    beijing = naming_identity(loaded(tmp_path, "default_url_prefix=s3://bucket/me", "region=cn-north-1"))
    there = launch_grant(beijing)
    assert there is not None
    written = json.dumps([policy_of(there), node_policies(provisioners_of(beijing), beijing, policy_of)])
    assert "arn:aws-cn:iam::*:role/kubeq-node" in written
    assert "arn:aws-cn:dynamodb:cn-north-1" in written
    assert "arn:aws-cn:s3:::bucket" in written
    assert "arn:aws:" not in written
    here = loaded(tmp_path, *asked, "provider=local")
    assert naming_identity(here) is here
    assert list(with_identity(provisioners_of(here), here, policy_of)) == [here.store_url, here.queue_url]
    assert launch_grant(here) is None


def test_who_starts_machines_of_google_is_told_what_that_takes(tmp_path: Path) -> None:
    account = "node@lab.iam.gserviceaccount.com"
    config = loaded(tmp_path, "default_url_prefix=gs://bucket/me", "project=lab", f"node_identity={account}")
    assert config.provider == "gce"
    grant = launch_grant(config)
    assert grant is not None
    acting = [each.resources for each in grant.permissions if "iam.serviceAccounts.actAs" in each.actions]
    assert acting == [(f"//iam.googleapis.com/projects/lab/serviceAccounts/{account}",)]
    view = SetupView(provisions=[], embedded=[], policies={}, dry_run=True, path=None, launching=policy_of(grant))
    assert "What whoever starts machines needs besides:" in list(view.text())
    assert view.json()["launching"] == policy_of(grant)


def loaded(root: Path, *overrides: str, file: Path | None = None, **environ: str) -> Config:
    return load_config(file=file, profile=None, overrides=overrides, environ=environ, cwd=root, home=root / "home")


def test_the_file_that_is_written_loads_to_the_same(tmp_path: Path) -> None:
    first = loaded(
        tmp_path,
        "default_url_prefix=gs://bucket/me",
        "project=lab",
        "results=a\n  b#c",
        "env=TOKEN=canary",
        "output=json",
        KUBEQ_LEASE="90",
    )
    path = tmp_path / "written"
    assert write_config(first, path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    second = loaded(tmp_path, file=path)
    ours = ("env", "output")
    assert [each.value for each in settings(second) if each.name not in ours] == [
        each.value for each in settings(first) if each.name not in ours
    ]
    assert second.origins["queue_url"].startswith(str(path)), "a later default must not move the jobs"
    text = path.read_text()
    assert "canary" not in text and "output" not in text
    assert text == config_text(first)


def test_a_file_that_says_the_same_is_left_alone_and_another_one_is_in_the_way(tmp_path: Path) -> None:
    config = loaded(tmp_path, "default_url_prefix=gs://bucket/me", "project=lab")
    path = tmp_path / ".kubeq"
    assert write_config(config, path)
    before = path.stat()
    assert not write_config(config, path)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    path.write_text("[config]\nretries = 1\n")
    with pytest.raises(Conflict, match="says something else"):
        write_config(config, path)
    assert path.read_text() == "[config]\nretries = 1\n"
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".kubeq-")] == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(BackendError, match="closed/x cannot be written"):
        write_config(loaded(tmp_path), tmp_path / "closed/x")


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="gone/x cannot be written"):
        write_config(loaded(tmp_path), tmp_path / "gone/x")


def test_a_machine_of_google_may_delete_itself_and_one_of_others_needs_no_such_right(tmp_path: Path) -> None:
    def told(provider: str) -> str:
        chosen = (f"provider={provider}", "queue_url=datastore://lab", "project=lab")
        config = load_config(file=None, profile=None, overrides=chosen, environ={}, cwd=tmp_path, home=tmp_path)
        return json.dumps(node_policies(account_of(Account()), config, policy_of))

    assert '"compute.instances.delete"' in told("gce")
    assert "compute.instances" not in told("ec2") + told("ssh")
