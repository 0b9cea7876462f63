"""What a node may do, in the words in which each cloud takes it: documents to hand to whoever grants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kubeq.actions.provisioning import Grant
from kubeq.core.provisioning import Permission

Document = Mapping[str, Any]


def policy_of(grant: Grant) -> Document:
    """The grant as a JSON document: for AWS a policy, for Google roles with the resources to grant each on."""
    return _WORDS[grant.cloud](grant.permissions)


def _aws(permissions: Sequence[Permission]) -> Document:
    """An identity-based policy (IAM user guide, "JSON policy elements")."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": list(each.actions), "Resource": list(each.resources)} for each in permissions
        ],
    }


def _gcp(permissions: Sequence[Permission]) -> Document:
    """Custom roles as `gcloud iam roles create --file` takes them; a role says what, its binding on which resource."""
    return {
        "roles": [
            {
                "role": {"title": f"kubeq node {number}", "stage": "GA", "includedPermissions": list(each.actions)},
                "resources": list(each.resources),
            }
            for number, each in enumerate(permissions, 1)
        ]
    }


_WORDS: Mapping[str, Callable[[Sequence[Permission]], Document]] = {"aws": _aws, "gcp": _gcp}
