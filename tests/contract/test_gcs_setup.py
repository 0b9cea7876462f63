"""What `kubeq setup` makes for a store in Cloud Storage."""

from __future__ import annotations

import pytest

from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import AccessDenied, BackendError, Conflict
from kubeq.store.gcs_bucket import Bucket
from kubeq.store.gcs_setup import BUCKET, CLOSED, RULE, UNFINISHED_DAYS, GcsProvisioner
from kubeq.store.open import open_provisioner
from kubeq.store.patience import Patience
from tests.stand_ins.gcs import FakeGcs
from tests.stand_ins.gcs_proxy import Fault


class Rig:
    """A bucket that does not exist yet, and what makes it."""

    def __init__(self, server: FakeGcs) -> None:
        self.proxy = server.proxy
        self.name = f"{server.bucket()}-new"
        self.bucket = Bucket(self.name)
        self.maker = self.another()
        self.proxy.reset()

    def another(self, prefix: str = "some/prefix") -> GcsProvisioner:
        patience = Patience(sleep=lambda seconds: None)
        return GcsProvisioner(Bucket(self.name), prefix, region="europe-west1", patience=patience)

    def standing(self) -> list[bool]:
        return [piece.stands for piece in self.maker.survey()]

    def piece(self, kind: str) -> Piece:
        return next(piece for piece in self.maker.survey() if piece.kind == kind)

    def settings(self) -> dict[str, object]:
        return self.proxy.settings[self.name]


@pytest.fixture
def rig(emulated_gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "test")
    return Rig(emulated_gcs)


def rule(prefix: str) -> dict[str, object]:
    condition = {"age": UNFINISHED_DAYS, "matchesPrefix": [prefix]}
    return {"action": {"type": "Delete"}, "condition": condition}


def test_a_new_bucket_is_made_whole_with_one_request(rig: Rig) -> None:
    pieces = rig.maker.survey()
    assert [(piece.kind, piece.name, piece.stands) for piece in pieces] == [
        (BUCKET, rig.name, False),
        (CLOSED, rig.name, False),
        (RULE, rig.name, False),
    ]
    assert "europe-west1" in pieces[0].about
    for piece in pieces:
        rig.maker.create(piece)
    assert rig.standing() == [True, True, True]
    assert rig.proxy.calls["buckets.insert"] == 1
    assert rig.proxy.calls["buckets.patch"] == 0
    settings = rig.settings()
    assert settings["location"] == "europe-west1"
    access = settings["iamConfiguration"]
    assert isinstance(access, dict)
    assert access["uniformBucketLevelAccess"]["enabled"] is True
    assert access["publicAccessPrevention"] == "enforced"
    deleted = settings["softDeletePolicy"]
    assert isinstance(deleted, dict)
    assert deleted["retentionDurationSeconds"] == 0
    assert settings["lifecycle"] == {"rule": [rule("some/prefix/tmp/kubeq-parts/")]}


def test_a_bucket_that_stands_gets_what_it_lacks_and_keeps_the_rest(rig: Rig) -> None:
    bucket = rig.bucket.client.bucket(rig.name)
    bucket.add_lifecycle_delete_rule(age=30, matches_prefix=["logs/"])
    bucket.labels = {"owner": "ada"}
    rig.bucket.client.create_bucket(bucket)
    assert rig.standing() == [True, False, False]
    for piece in rig.maker.survey():
        rig.maker.create(piece)
    assert rig.standing() == [True, True, True]
    theirs = {"action": {"type": "Delete"}, "condition": {"age": 30, "matchesPrefix": ["logs/"]}}
    assert rig.settings()["lifecycle"] == {"rule": [theirs, rule("some/prefix/tmp/kubeq-parts/")]}
    assert rig.settings()["labels"] == {"owner": "ada"}
    changes = [asked for asked in rig.proxy.asked if asked.method == "buckets.patch"]
    assert len(changes) == 2
    assert all("ifMetagenerationMatch" in change.query for change in changes)


def test_two_stores_in_one_bucket_have_a_rule_each_unless_one_covers_both(rig: Rig) -> None:
    for piece in rig.maker.survey():
        rig.maker.create(piece)
    other = rig.another("other")
    assert [piece.stands for piece in other.survey()] == [True, True, False]
    bucket = rig.bucket.client.get_bucket(rig.name)
    bucket.add_lifecycle_delete_rule(age=1)
    bucket.patch()
    assert [piece.stands for piece in other.survey()] == [True, True, True]


def test_a_rule_for_less_does_not_count(rig: Rig) -> None:
    bucket = rig.bucket.client.bucket(rig.name)
    bucket.add_lifecycle_delete_rule(age=1, matches_prefix=["some/prefix/tmp/kubeq-parts/a"])
    bucket.add_lifecycle_delete_rule(age=1, is_live=False, matches_prefix=["some/prefix/"])
    bucket.add_lifecycle_set_storage_class_rule("NEARLINE", age=1)
    rig.bucket.client.create_bucket(bucket)
    assert rig.standing() == [True, False, False]


def test_making_it_twice_at_once_is_no_error(rig: Rig) -> None:
    missing = rig.piece(BUCKET)
    rig.another().create(missing)
    rig.maker.create(missing)
    assert rig.standing() == [True, True, True]


def test_settings_that_somebody_changed_meanwhile_are_read_again(rig: Rig) -> None:
    rig.bucket.client.create_bucket(rig.name)
    rig.proxy.faults.append(Fault(method="buckets.patch", status=412, reason="conditionNotMet", times=2))
    rig.maker.create(rig.piece(CLOSED))
    assert rig.standing() == [True, True, False]
    assert rig.proxy.calls["buckets.patch"] == 3


def test_a_bucket_of_somebody_elses_is_a_conflict(rig: Rig) -> None:
    missing = rig.piece(BUCKET)
    refused = "ada@example.org does not have storage.buckets.get access to the Google Cloud Storage bucket."
    rig.bucket.client.create_bucket(rig.name)
    rig.proxy.faults.append(Fault(method="buckets.get", status=403, reason="forbidden", message=refused, times=2))
    with pytest.raises(Conflict, match="somebody else has a bucket of that name"):
        rig.maker.create(missing)
    with pytest.raises(AccessDenied, match=r"the permission storage\.buckets\.get is not granted"):
        rig.maker.survey()


def test_throttling_is_waited_for(rig: Rig) -> None:
    rig.proxy.faults.append(Fault(method=r"buckets\..*", status=429, times=3))
    rig.maker.create(rig.piece(BUCKET))
    assert rig.standing() == [True, True, True]


def test_without_a_project_it_is_said_how_to_name_one(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOOGLE_CLOUD_PROJECT")
    with pytest.raises(BackendError, match="it is not known in which project") as caught:
        rig.maker.create(Piece(kind=BUCKET, name=rig.name, stands=False, about=""))
    assert "gcloud config set project" in str(caught.value.hint)


def test_a_node_may_do_what_an_object_store_does_and_no_more(rig: Rig) -> None:
    bucket = f"//storage.googleapis.com/projects/_/buckets/{rig.name}"
    objects = ("storage.objects.create", "storage.objects.delete", "storage.objects.get")
    assert rig.maker.node_permissions() == [
        Permission(actions=objects, resources=(f"{bucket}/objects/some/prefix/",)),
        Permission(actions=("storage.objects.list",), resources=(bucket,)),
    ]
    assert rig.another("").node_permissions() == [
        Permission(actions=(*objects, "storage.objects.list"), resources=(bucket,))
    ]
    assert rig.proxy.asked == []


def test_the_bucket_is_made_in_the_project_that_is_named(rig: Rig) -> None:
    maker = open_provisioner(f"gs://{rig.name}", None, "elsewhere")
    assert maker is not None
    maker.create(maker.survey()[0])
    (made,) = [asked for asked in rig.proxy.asked if asked.method == "buckets.insert"]
    assert made.query["project"] == "elsewhere"


def test_the_url_names_what_is_to_be_made(rig: Rig) -> None:
    maker = open_provisioner(f"gs://{rig.name}/some/prefix", "europe-west1")
    assert isinstance(maker, GcsProvisioner)
    assert maker.cloud == "gcp"
    assert list(maker.node_permissions()) == list(rig.maker.node_permissions())
