"""What `kubeq setup` makes for a queue in Datastore."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import AccessDenied, BackendError, Conflict
from kubeq.gcp import Account
from kubeq.queue.datastore_entities import Place
from kubeq.queue.datastore_setup import DatastoreProvisioner
from kubeq.queue.open import open_provisioner
from kubeq.queue.patience import Patience
from tests.stand_ins.firestore_admin import FirestoreAdmin, firestore_admin

PLACE = Place(project="project", namespace="space", database="")
NAME = "projects/project/databases/(default)"
NOBODY = Account(credentials=None, project=None)


@pytest.fixture
def service() -> Iterator[tuple[FirestoreAdmin, str]]:
    with firestore_admin() as service:
        yield service


@pytest.fixture
def admin(service: tuple[FirestoreAdmin, str]) -> FirestoreAdmin:
    return service[0]


@pytest.fixture
def provisioner(service: tuple[FirestoreAdmin, str]) -> DatastoreProvisioner:
    return made(service, PLACE)


def made(service: tuple[FirestoreAdmin, str], place: Place, location: str | None = None) -> DatastoreProvisioner:
    seconds = count()
    patience = Patience(sleep=lambda seconds: None, now=lambda: float(next(seconds)))
    return DatastoreProvisioner(place, location, admin=service[1], account=NOBODY, patience=patience)


def test_a_database_that_is_missing_is_made_and_then_stands(
    admin: FirestoreAdmin, provisioner: DatastoreProvisioner
) -> None:
    (piece,) = provisioner.survey()
    assert (piece.kind, piece.name, piece.stands) == ("database", "(default)", False)
    assert "nam5" in piece.about
    provisioner.create(piece)
    assert admin.databases[NAME] == {"name": NAME, "type": "DATASTORE_MODE", "locationId": "nam5"}
    (standing,) = provisioner.survey()
    assert standing.stands


def test_a_named_database_is_made_in_the_region_that_was_asked_for(service: tuple[FirestoreAdmin, str]) -> None:
    provisioner = made(service, PLACE._replace(database="kubeq"), "europe-west4")
    provisioner.create(provisioner.survey()[0])
    assert service[0].databases["projects/project/databases/kubeq"]["locationId"] == "europe-west4"


def test_what_somebody_else_made_meanwhile_is_taken_as_it_is(
    admin: FirestoreAdmin, provisioner: DatastoreProvisioner
) -> None:
    (piece,) = provisioner.survey()
    admin.databases[NAME] = {"name": NAME, "type": "DATASTORE_MODE", "locationId": "eur3"}
    provisioner.create(piece)
    assert provisioner.survey()[0].about.count("eur3") == 1


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_database_in_native_mode_is_refused_with_another_to_name(
    admin: FirestoreAdmin, provisioner: DatastoreProvisioner, meanwhile: bool
) -> None:
    piece = Piece(kind="database", name="(default)", stands=False, about="")
    admin.databases[NAME] = {"name": NAME, "type": "FIRESTORE_NATIVE"}
    with pytest.raises(Conflict, match="in Native mode") as refused:
        provisioner.create(piece) if meanwhile else provisioner.survey()
    assert refused.value.hint is not None
    assert "datastore://project?database=kubeq" in refused.value.hint


def test_a_moment_of_failure_is_waited_out(admin: FirestoreAdmin, provisioner: DatastoreProvisioner) -> None:
    admin.fails = [(503, "UNAVAILABLE", "busy"), (429, "RESOURCE_EXHAUSTED", "slowly")]
    assert not provisioner.survey()[0].stands
    assert len(admin.requests) == 3


def test_who_may_not_look_is_told_so(admin: FirestoreAdmin, provisioner: DatastoreProvisioner) -> None:
    admin.fails = [(403, "PERMISSION_DENIED", "Missing or insufficient permissions.")]
    with pytest.raises(AccessDenied, match=r"could not look at the database \(default\) of the project project"):
        provisioner.survey()


def test_what_google_says_of_a_database_that_cannot_be_made_is_passed_on(
    admin: FirestoreAdmin, provisioner: DatastoreProvisioner
) -> None:
    admin.refusal = "location nowhere is not known"
    with pytest.raises(BackendError, match=r"could not make .*: location nowhere is not known"):
        provisioner.create(provisioner.survey()[0])


def test_a_database_that_never_comes_is_given_up(
    service: tuple[FirestoreAdmin, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.stand_ins.firestore_admin.LOOKS", 1_000_000)
    provisioner = made(service, PLACE)
    with pytest.raises(BackendError, match="was not there after 300 s"):
        provisioner.create(provisioner.survey()[0])


def test_a_node_may_read_and_write_entities_and_neither_delete_them_nor_make_databases(
    provisioner: DatastoreProvisioner,
) -> None:
    actions = ("create", "get", "list", "update")
    assert provisioner.node_permissions() == [
        Permission(
            actions=tuple(f"datastore.entities.{action}" for action in actions),
            resources=(f"//firestore.googleapis.com/{NAME}",),
        )
    ]


def test_at_a_stand_in_nothing_has_to_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATASTORE_EMULATOR_HOST", "127.0.0.1:1")
    provisioner = open_provisioner("datastore://project-x/space")
    assert provisioner is not None
    assert provisioner.survey() == []
