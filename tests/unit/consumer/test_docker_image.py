from __future__ import annotations

import pytest

from kubeq_consumer.runtimes.docker_image import explain_pull

DENIED = (
    "pull access denied for nope, repository does not exist or may require 'docker login': "
    "denied: requested access to the resource is denied"
)


@pytest.mark.parametrize(
    ("words", "reason", "transient"),
    [
        ("manifest for python:0 not found: manifest unknown: manifest unknown", "does not exist", False),
        (DENIED, "does not exist, or may not be pulled", False),
        ('Head "https://r/v2/x": unauthorized: authentication required', "may not be pulled", False),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", "for this kind of machine", False),
        ("toomanyrequests: You have reached your pull rate limit", "no more for now", True),
        ("Get https://r/v2/: dial tcp: lookup r: no such host", "registry cannot be reached", True),
        ('Get "https://r/v2/": dial tcp 127.0.0.1:1: connect: connection refused', "registry cannot be reached", True),
        ("net/http: request canceled (Client.Timeout exceeded)", "registry cannot be reached", True),
        ("failed to register layer: write /a: no space left on device", "no room", False),
        ("something new", "cannot be pulled", False),
    ],
)
def test_the_reasons_of_a_failed_pull_are_told_apart(words: str, reason: str, transient: bool) -> None:
    error = explain_pull("the-image:1", words)
    assert reason in error.message and "the-image:1" in error.message and words in error.message
    assert error.transient is transient
