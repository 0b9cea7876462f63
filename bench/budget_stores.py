"""What each step may ask of each kind of store; see `budget`."""

from __future__ import annotations

from dataclasses import dataclass

from bench.budget import Ask

STRETCH = 144
"""Names from which on a listing is tried before each is asked for (`kubeq.store.sizes`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """S3, Cloud Storage: which requests do what, and in which of the two classes they are billed; deleting is free."""

    put: str
    get: str
    stat: str
    list: str
    delete: str
    dear: str
    cheap: str

    def submit(self, missing: int, already: int) -> Ask:
        asked = missing + already
        heads = (asked if asked < STRETCH or already else 0) + already  # what was found is asked for again at the end
        listings = (asked // STRETCH if asked >= STRETCH else int(not already)) + already // STRETCH
        return Ask(
            {self.put: 1 + missing, self.delete: 1, self.stat: heads, self.list: listings},
            {self.dear: 1 + missing + listings, self.cheap: heads},
        )

    def stage_in(self, files: int) -> Ask:
        return Ask({self.get: 2 + files}, {self.cheap: 2 + files})

    def publish(self, files: int) -> Ask:
        return Ask({self.put: files + 2}, {self.dear: files + 2})

    def segment(self) -> Ask:
        return Ask({self.put: 1}, {self.dear: 1})

    def fetch(self, files: int) -> Ask:
        return Ask({self.get: files + 2}, {self.cheap: files + 2})


@dataclass(frozen=True, slots=True)
class Directory:
    """Calls of the store in a directory, which nobody bills."""

    def submit(self, missing: int, already: int) -> Ask:
        return Ask({"put": missing, "stat": 1 + (already > 0)})

    def stage_in(self, files: int) -> Ask:
        return Ask({"get": 2 + files})

    def publish(self, files: int) -> Ask:
        return Ask({"put": files + 2})

    def segment(self) -> Ask:
        return Ask({"put": 1})

    def fetch(self, files: int) -> Ask:
        return Ask({"get": files + 2})


S3 = Bucket(
    put="PutObject", get="GetObject", stat="HeadObject", list="ListObjectsV2", delete="DeleteObjects",
    dear="PUT, LIST", cheap="GET, HEAD",
)  # fmt: skip
CLOUD_STORAGE = Bucket(
    put="objects.insert", get="objects.get", stat="objects.get", list="objects.list", delete="objects.delete",
    dear="class A", cheap="class B",
)  # fmt: skip
