"""What of other people's goes into an archive."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kubeq.errors import UsageError
from kubeq.nodes.packages import ALWAYS, COMPILED, EXTRAS, SCHEMES, extras_of, installed, packages_for
from kubeq.queue.open import TABLES
from kubeq.store.open import STORES

ROOT = Path(__file__).parents[3]


def install(site: Path, name: str, files: dict[str, str], *, requires: tuple[str, ...] = (), python: str = "") -> None:
    """A package as pip lays it into a folder."""
    folder = f"{name}-1.0.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    metadata += [f"Requires-Python: {python}"] if python else []
    whole = {**files, f"{folder}/METADATA": "\n".join(metadata) + "\n", f"{folder}/INSTALLER": "pip\n"}
    whole[f"{folder}/RECORD"] = "".join(f"{path},,\n" for path in [*whole, f"{folder}/RECORD"])
    for path, content in whole.items():
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_text(content)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages that Python looks into."""
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_the_list_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert [each for each in project["dependencies"] if not each.startswith("click")] == list(ALWAYS)
    makes_machines = "google-cloud-compute"  # the command line's affair; no agent needs it
    assert {
        name: sorted(each for each in project["optional-dependencies"][name] if not each.startswith(makes_machines))
        for name in EXTRAS
    } == {name: sorted(wanted) for name, wanted in EXTRAS.items()}


def test_every_cloud_of_the_registries_says_what_it_needs() -> None:
    clouds = {name for kinds in (STORES, TABLES) for name, kind in kinds.items() if kind.provision is not None}
    assert clouds <= set(SCHEMES)
    assert set(SCHEMES.values()) == set(EXTRAS)


def test_urls_name_the_extras_once() -> None:
    assert extras_of("sqlite:/q.db", "file:///s") == ()
    assert extras_of("dynamodb://eu-west-1/kubeq", "s3://bucket/prefix") == ("aws",)
    assert extras_of("datastore://project", "s3://bucket") == ("gcp", "aws")


def test_the_agent_of_this_machine_needs_docker_and_what_docker_needs() -> None:
    names = [package.name for package in packages_for(())]
    assert names == ["certifi", "charset-normalizer", "docker", "idna", "requests", "urllib3"]


def test_nothing_compiled_goes_in_and_licences_do() -> None:
    files = {name for package in packages_for(()) for name in package.files}
    assert not [name for name in files if name.endswith((".so", ".pyc", ".pyd"))]
    assert "charset_normalizer/md.py" in files
    assert [name for name in files if name.startswith("docker-") and "LICENSE" in name]
    assert not [name for name in files if name.endswith(("RECORD", "INSTALLER", "direct_url.json"))]


def test_of_the_aws_sdk_only_the_services_that_an_agent_speaks_to_go_in() -> None:
    packages = packages_for(("aws",))
    files = {name for package in packages for name in package.files}
    services = {name.split("/")[2] for name in files if name.startswith("botocore/data/") and name.count("/") > 2}
    assert services == {"dynamodb", "s3", "signin", "sso", "sso-oidc", "sts"}
    assert {"botocore/data/endpoints.json", "botocore/data/partitions.json", "botocore/cacert.pem"} <= files
    assert sum(path.stat().st_size for package in packages for path in package.files.values()) < 12 * 2**20


@pytest.mark.parametrize("extra", sorted(COMPILED))
def test_what_needs_compiled_code_is_refused_and_the_image_named(extra: str) -> None:
    with pytest.raises(UsageError, match="is compiled for one kind of machine") as caught:
        packages_for((extra,))
    assert "image" in (caught.value.hint or "")


def test_requirements_are_followed_but_for_other_machines_and_extras(site: Path) -> None:
    requires = ("inner-one (>=1)", "never-there; sys_platform == 'win32'", "for-tests; extra == 'test'")
    install(site, "outer", {"outer.py": ""}, requires=requires, python=">=3.12")
    install(site, "inner_one", {"inner_one/__init__.py": ""}, python=">= 3.9, !=3.10.*")
    install(site, "for_tests", {"for_tests.py": ""})
    found = installed(["outer>=1"], hint="")
    assert [(package.name, package.version, package.python) for package in found] == [
        ("inner-one", "1.0", 9),
        ("outer", "1.0", 12),
    ]
    assert found[0].files["inner_one/__init__.py"] == site / "inner_one/__init__.py"


def test_a_package_that_is_missing_is_named_with_what_to_type() -> None:
    with pytest.raises(UsageError, match="the Python package no-such-thing is not installed") as caught:
        installed(["no-such-thing>=3"], hint="pip install it")
    assert caught.value.hint == "pip install it"


def test_a_compiled_module_needs_a_twin_in_python(site: Path) -> None:
    install(site, "fast", {"fast/a.py": "", "fast/a.cpython-311-x86_64-linux-gnu.so": "", "fast/g__mypyc.abi3.so": ""})
    (package,) = installed(["fast"], hint="")
    assert [name for name in package.files if name.startswith("fast/")] == ["fast/a.py"]
    install(site, "faster", {"faster/a.py": "", "faster/b.abi3.so": ""})
    with pytest.raises(UsageError, match=r"faster/b\.abi3\.so of the package faster is compiled"):
        installed(["faster"], hint="")


def test_a_package_whose_files_nobody_has_listed_is_refused(site: Path) -> None:
    install(site, "debians", {"debians.py": ""})
    (site / "debians-1.0.dist-info/RECORD").unlink()
    with pytest.raises(UsageError, match="no list of the files of the Python package debians"):
        installed(["debians"], hint="")
