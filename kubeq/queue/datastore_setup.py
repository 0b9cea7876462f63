"""What a queue in Datastore needs, and what a node may do there: the words and deeds of `kubeq setup`.

A database in Datastore mode, and nothing else: the queries of a queue are answered by the indexes that every database
keeps by itself. Databases are made by the Firestore Admin API, of which only three requests are needed here, so that
they are written out rather than brought in by one more of Google's libraries.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from urllib.parse import quote

from google.api_core.exceptions import Conflict as Taken
from google.api_core.exceptions import NotFound, from_http_response
from google.auth.credentials import AnonymousCredentials
from google.auth.transport.requests import AuthorizedSession

from kubeq.core.provisioning import Permission, Piece
from kubeq.errors import BackendError, Conflict
from kubeq.gcp import Account, find_account, google_errors
from kubeq.metering import Meter
from kubeq.queue.datastore_entities import Place
from kubeq.queue.datastore_requests import EMULATOR
from kubeq.queue.patience import Patience

ADMIN = "https://firestore.googleapis.com/v1"
"""https://docs.cloud.google.com/firestore/docs/reference/rest/v1/projects.databases (March 2026)."""
DATABASE = "database"
DEFAULT = "(default)"
LOCATION = "nam5"
"""Where a database is made if nobody names a place: several regions of the United States, as Google's buckets are."""
TIMEOUT_S = 30.0
READY_S = 300.0
"""A database is made within a minute or so."""
LOOK_EVERY_S = 2.0
NODE_PERMISSIONS = ("create", "get", "list", "update")
"""To insert, look up, query and update entities: https://cloud.google.com/datastore/docs/access/iam (May 2026).
Transactions would need one more; a node deletes nothing."""


class DatastoreProvisioner:
    """Makes the database of a place, in `location`. A stand-in needs nothing: it has every database."""

    cloud: ClassVar[str] = "gcp"

    def __init__(
        self,
        place: Place,
        location: str | None = None,
        *,
        admin: str = ADMIN,
        account: Account | None = None,
        patience: Patience | None = None,
    ) -> None:
        self._name = place.database or DEFAULT
        self._resource = f"projects/{place.project}/databases/{self._name}"
        self._thing = f"the database {self._name} of the project {place.project}"
        self._place = place
        self._location = location or LOCATION
        self._admin = admin
        self._account = account
        self._patience = patience or Patience()
        self._meter = Meter()
        self._opened: AuthorizedSession | None = None

    @property
    def requests(self) -> Mapping[str, int]:
        """See Provisioner."""
        return self._meter.read()

    def survey(self) -> Sequence[Piece]:
        """The database. Request: `databases.get`. Raises Conflict for one that is in Native mode."""
        if os.environ.get(EMULATOR) and self._account is None:
            return []
        found = self._look()
        where = (found or {}).get("locationId", self._location)
        about = f"Firestore in Datastore mode, in {where}; encrypted by Google itself"
        return [Piece(kind=DATABASE, name=self._name, stands=found is not None, about=about)]

    def create(self, piece: Piece) -> None:
        """Make it and return when it is there. Requests: `databases.create`, `operations.get` every other second."""
        operation = self._ask(
            f"make {self._thing}",
            "POST",
            f"projects/{self._place.project}/databases?databaseId={quote(self._name)}",
            {"type": "DATASTORE_MODE", "locationId": self._location},
            Taken,
        )
        deadline = self._patience.now() + READY_S
        while operation is not None and not operation.get("done"):
            if self._patience.now() > deadline:
                raise BackendError(
                    f"{self._thing} was not there after {READY_S:.0f} s", hint="wait a little, then: kubeq setup"
                )
            self._patience.sleep(LOOK_EVERY_S)
            operation = self._ask(f"see whether {self._thing} is made", "GET", operation["name"])
        if operation is not None and "error" in operation:
            raise BackendError(f"could not make {self._thing}: {operation['error'].get('message', 'no reason given')}")
        if operation is None:
            self._look()  # somebody else has made it: is it one that can be used?

    def node_permissions(self) -> Sequence[Permission]:
        """Of the database, not of the namespace: Google's permissions know none."""
        actions = tuple(f"datastore.entities.{action}" for action in NODE_PERMISSIONS)
        return [Permission(actions=actions, resources=(f"//firestore.googleapis.com/{self._resource}",))]

    def _look(self) -> Mapping[str, Any] | None:
        """The database as Google describes it; None if there is none."""
        found = self._ask(f"look at {self._thing}", "GET", self._resource, None, NotFound)
        if found is not None and found.get("type") != "DATASTORE_MODE":
            raise Conflict(
                f"{self._thing} is in Native mode, and a queue needs one in Datastore mode",
                hint=f"name another, which kubeq setup then makes: datastore://{self._place.project}?database=kubeq",
            )
        return found

    def _ask(
        self,
        doing: str,
        verb: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        nothing: type[Exception] | tuple[()] = (),
    ) -> Mapping[str, Any] | None:
        """The answer's JSON; None for the error that is to mean nothing."""

        kind = "databases.create" if verb == "POST" else "operations.get" if "/operations/" in path else "databases.get"

        def once() -> Mapping[str, Any] | None:
            self._meter.count(kind)
            with google_errors(doing, missing=f"the project {self._place.project}"):
                url = f"{self._admin}/{path}"
                response = self._session.request(verb, url, json=body, timeout=TIMEOUT_S)  # type: ignore[no-untyped-call]
                try:
                    if response.status_code >= 400:
                        raise from_http_response(response)  # type: ignore[no-untyped-call]
                except nothing:
                    return None
                answer: Mapping[str, Any] = response.json()
                return answer

        return self._patience.repeat(once)

    @property
    def _session(self) -> AuthorizedSession:
        if self._opened is None:
            account = self._account or find_account(EMULATOR)
            credentials = account.credentials or AnonymousCredentials()  # type: ignore[no-untyped-call]
            self._opened = AuthorizedSession(credentials)  # type: ignore[no-untyped-call]
        return self._opened
