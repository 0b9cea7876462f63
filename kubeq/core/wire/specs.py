"""Specs: blobs with one canonical encoding."""

from __future__ import annotations

import json
from dataclasses import replace

from kubeq.core.digest import Digest
from kubeq.core.spec import JobSpec, Mount, Network
from kubeq.core.wire.base import SCHEMA, Document, decode_resources, encode_resources, read


def encode_spec(spec: JobSpec) -> bytes:
    """The blob of a spec: one canonical encoding, so that equal specs have equal digests."""
    document = {
        "schema": SCHEMA,
        "command": list(spec.command),
        "columns": list(spec.columns),
        "appends_line": spec.appends_line,
        "shell": spec.shell,
        "image": spec.image,
        "image_digest": spec.image_digest,
        "entrypoint": None if spec.entrypoint is None else list(spec.entrypoint),
        "directory": spec.directory,
        "environment": [list(pair) for pair in spec.environment],
        "user": spec.user,
        "network": spec.network,
        "shm_size": spec.shm_size,
        "mounts": [[mount.source, mount.target, mount.read_only] for mount in spec.mounts],
        "inputs": spec.inputs and str(spec.inputs),
        "results": list(spec.results),
        "ignore": list(spec.ignore),
        "resources": encode_resources(spec.resources),
        "timeout_s": spec.timeout_s,
        "log_limit": spec.log_limit,
        **({"allow_node_credentials": True} if spec.allow_node_credentials else {}),
    }
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def decode_spec(content: bytes) -> JobSpec:
    """The spec of a blob."""

    def build(document: Document) -> JobSpec:
        entrypoint, inputs = document["entrypoint"], document["inputs"]
        return JobSpec(
            command=tuple(document["command"]),
            columns=tuple(document["columns"]),
            appends_line=document.get("appends_line", False),
            shell=document["shell"],
            image=document["image"],
            image_digest=document["image_digest"],
            entrypoint=None if entrypoint is None else tuple(entrypoint),
            directory=document["directory"],
            environment=tuple((name, value) for name, value in document["environment"]),
            user=document["user"],
            network=Network(document["network"]),
            shm_size=document["shm_size"],
            mounts=tuple(
                Mount(source=source, target=target, read_only=read_only)
                for source, target, read_only in document["mounts"]
            ),
            inputs=Digest.parse(inputs) if inputs else None,
            results=tuple(document["results"]),
            ignore=tuple(document["ignore"]),
            resources=decode_resources(document["resources"]),
            timeout_s=document["timeout_s"],
            log_limit=document["log_limit"],
            allow_node_credentials=document.get("allow_node_credentials", False),
        )

    return read("a spec", content, build)


def unpinned(spec: JobSpec) -> JobSpec:
    """The spec as the user asked for it, without what the image was resolved to; for comparing two submissions."""
    return replace(spec, image_digest=None)
