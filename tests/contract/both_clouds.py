"""The fixture by which a test runs on every emulated cloud that makes machines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contract.gce_rig import GceRig
from tests.contract.machine_clouds import CloudRig, Ec2Rig


@pytest.fixture(params=["ec2", "gce"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> CloudRig:
    """One whose machines are records, as new."""
    if request.param == "gce":
        return GceRig(request.getfixturevalue("gce"), tmp_path)
    return Ec2Rig(request.getfixturevalue("ec2_account"), tmp_path)
