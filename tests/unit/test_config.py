"""The configuration: what is found, which layer wins, and what is said of each thing that is wrong."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubeq.config import KEYS, Config, Key, load_config, task_environment, with_flags
from kubeq.config import settings as shown_settings
from kubeq.core.machines import Volume
from kubeq.core.resources import Resources
from kubeq.core.spec import Mount, Network
from kubeq.errors import KubeqError, NotFound, UsageError

ROOT = Path(__file__).resolve().parents[2]
SEED = """[config]
cas_url_prefix=gs://BUCKET_NAME/cas/
default_url_prefix=gs://BUCKET_NAME/kubeque/
project=PROJECT_NAME
cluster_name=kubeque-cluster
machine_type=g1-small
default_image=us.gcr.io/PROJECT_NAME/kubeque-example
default_resource_cpu=0.2
default_resource_memory=100M
"""
Load = Callable[..., Config]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def cwd(tmp_path: Path) -> Path:
    (tmp_path / "work/project/deep").mkdir(parents=True)
    return tmp_path / "work/project/deep"


@pytest.fixture
def load(home: Path, cwd: Path) -> Load:
    def run(content: str | bytes | None = None, *overrides: str, **more: Any) -> Config:
        if content is not None:
            more["file"] = cwd / "settings"
            more["file"].write_bytes(content if isinstance(content, bytes) else content.encode())
            more["file"].chmod(0o600)
        given = {"file": None, "profile": None, "environ": {}} | more
        return load_config(overrides=overrides, cwd=cwd, home=home, **given)

    return run


def refusal(load: Load, *args: Any, kind: type[KubeqError] = UsageError, **more: Any) -> KubeqError:
    with pytest.raises(kind) as caught:
        load(*args, **more)
    assert "\n" not in caught.value.message
    return caught.value


def test_without_a_file_everything_has_a_default(load: Load, home: Path) -> None:
    config = load()
    assert config.state_dir == home / ".local/state/kubeq"
    assert config.cache_dir == home / ".cache/kubeq"
    assert config.queue_url == f"sqlite:{home}/.local/state/kubeq/queue.db"
    assert config.store_url == f"file://{home}/.local/state/kubeq/store"
    assert (config.provider, config.image, config.container_image) == ("local", "python:3.12-slim", "python:3.12-slim")
    assert config.task_resources == Resources(cpu=1.0, memory=None)
    assert (config.lease_s, config.linger_s, config.linger_others_s) == (120.0, 600.0, 60.0)
    assert (config.path, config.notes, set(config.origins.values())) == (None, (), {"default"})


def test_the_state_follows_xdg_and_what_follows_from_it_follows(load: Load, tmp_path: Path) -> None:
    config = load(environ={"XDG_STATE_HOME": str(tmp_path / "a b"), "XDG_CACHE_HOME": "relative/is/ignored"})
    assert config.state_dir == tmp_path / "a b/kubeq"
    assert config.queue_url == f"sqlite:{tmp_path}/a b/kubeq/queue.db"
    assert config.store_url == f"file://{tmp_path}/a%20b/kubeq/store"
    assert config.cache_dir.parts[-2:] == (".cache", "kubeq")
    assert load(None, "state_dir=/x").queue_url == "sqlite:/x/queue.db"


def test_a_config_cannot_be_changed(load: Load) -> None:
    with pytest.raises(FrozenInstanceError):
        load().retries = 1  # type: ignore[misc]


def test_precedence_is_default_environment_file_command_line(load: Load, cwd: Path) -> None:
    environ = {"KUBEQ_RETRIES": "1", "KUBEQ_LEASE": "11", "KUBEQ_POLL": "1"}
    config = with_flags(load("[config]\nretries = 2\nlease = 22\n", "lease=33", environ=environ), {"retries": "4"})
    assert (config.retries, config.lease_s, config.poll_s, config.loss_limit) == (4, 33.0, 1.0, 5)
    assert {name: config.origins[name] for name in ("retries", "lease", "poll", "loss_limit")} == {
        "retries": "--retries",
        "lease": "-o lease",
        "poll": "KUBEQ_POLL",
        "loss_limit": "default",
    }
    assert load("[config]\n\nretries = 2\n").origins["retries"] == f"{cwd}/settings:3"


def test_an_empty_variable_is_no_value(load: Load) -> None:
    assert load(environ={"KUBEQ_RETRIES": "", "KUBEQ_CONFIG": "", "KUBEQ_PROFILE": ""}).retries == 0


def test_the_search_order(load: Load, home: Path, cwd: Path) -> None:
    places = [
        cwd / ".kubeq",
        cwd.parent / ".kubeq",
        cwd.parent.parent / ".kubeq",
        home / ".config/kubeq/config",
        home / ".kubeq",
        cwd / ".kubeque",
        cwd.parent.parent / ".kubeque",
        home / ".kubeque",
    ]
    for number, path in enumerate(places):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"[config]\nretries = {number}\n")
    for number, path in enumerate(places):
        config = load()
        assert (config.path, config.retries) == (path, number)
        assert bool(config.notes) == (path.name == ".kubeque")
        path.unlink()
    assert load().path is None


def test_xdg_config_home_moves_its_place_and_kubeq_config_names_the_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "xdg/kubeq").mkdir(parents=True)
    (tmp_path / "xdg/kubeq/config").write_text("[config]\nretries = 1\n[profile p]\nretries = 2\n")
    assert load(environ={"XDG_CONFIG_HOME": str(tmp_path / "xdg")}).retries == 1
    environ = {"KUBEQ_CONFIG": str(tmp_path / "xdg/kubeq/config"), "KUBEQ_PROFILE": "p"}
    assert load(environ=environ).retries == 2
    assert "KUBEQ_CONFIG" not in " ".join(load(environ=environ).notes)


def test_a_directory_of_that_name_is_passed_over_in_the_search(load: Load, cwd: Path) -> None:
    (cwd / ".kubeq").mkdir()
    assert load().path is None


def test_the_old_name_is_used_with_a_note(load: Load, cwd: Path) -> None:
    (cwd / ".kubeque").write_text(SEED)
    notes = load().notes
    assert "rename it to .kubeq" in notes[0]


def test_the_files_of_kubeque_load_unchanged(load: Load, cwd: Path) -> None:
    config = load(SEED)
    assert config.default_url_prefix == "gs://BUCKET_NAME/kubeque/"
    assert config.blobs_url == "gs://BUCKET_NAME/cas/"
    assert config.queue_url == "datastore://PROJECT_NAME"
    assert config.image == "us.gcr.io/PROJECT_NAME/kubeque-example"
    assert config.task_resources == Resources(cpu=0.2, memory=100_000_000)
    assert config.provider == "gce"
    assert config.notes == (), "every key of it says what it said"


def test_what_is_asked_of_machines_goes_by_kubeques_names_too(load: Load) -> None:
    config = load(
        "[config]\nzones = us-east1-b,us-east1-c\npreemptible = y\nboot_volume_in_gb = 40\nboot_volume_type = pd-ssd\n"
        "account = me@lab.iam.gserviceaccount.com\nmount_count = 2\nmount_1_path = /a\nmount_2_path = /b\n"
        "mount_2_size_in_gb = 7\nmount_2_type = pd-ssd\nmachine_type =\n  n1-standard-1\n  n1-standard-2, e2-small\n"
    )
    assert (config.zones, config.spot, config.boot_disk) == (("us-east1-b", "us-east1-c"), True, 40 * 10**9)
    assert (config.boot_disk_type, config.node_identity) == ("pd-ssd", "me@lab.iam.gserviceaccount.com")
    assert config.machine_type == ("n1-standard-1", "n1-standard-2", "e2-small")
    assert config.volumes == (Volume(path="/a", size=100 * 10**9), Volume(path="/b", size=7 * 10**9, kind="pd-ssd"))
    assert [note.split("key ")[1] for note in config.notes if "is now called" in note] == [
        "'preemptible' is now called 'spot'",
        "'boot_volume_in_gb' is now called 'boot_disk'",
        "'boot_volume_type' is now called 'boot_disk_type'",
        "'account' is now called 'node_identity'",
    ]
    assert with_flags(config, {"machine_type": ("a, b", "c"), "spot": False}).machine_type == ("a", "b", "c")
    assert load(None, "zone=us-east1-d").zones == ("us-east1-d",)


@pytest.mark.parametrize("name", ["zone", "zones", "machine_type", "cluster-name"])
def test_a_key_of_other_nodes_warns(load: Load, name: str) -> None:
    assert "no meaning with the local provider" in load(f"[config]\n{name} = x\n").notes[0]
    assert "no meaning with the local provider" in load(None, f"{name}=x").notes[0]


@pytest.mark.parametrize("name", ["account", "mount_1_name", "gpu_count", "service_account_key"])
def test_a_key_of_kubeque_without_meaning_warns(load: Load, name: str) -> None:
    assert "no meaning here" in load(f"[config]\n{name} = me@example.org\n").notes[0]
    assert "no meaning here" in load(None, f"{name}=x").notes[0]


def test_inputs_are_stored_beside_the_results_unless_they_have_a_place_of_their_own(load: Load) -> None:
    config = load("[config]\ndefault_url_prefix = file:///results\n")
    assert (config.blobs_url, config.origins["cas_url_prefix"]) == ("file:///results", "default")
    assert load(None, "cas_url_prefix=file:///cas").blobs_url == "file:///cas"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_three_lines_make_a_queue_of_the_stores_own_cloud(load: Load) -> None:
    aws = load("[config]\ndefault_url_prefix = s3://bucket/me\nregion = eu-west-1\n")
    assert (aws.queue_url, aws.origins["queue_url"]) == ("dynamodb://eu-west-1/kubeq", "default")
    google = load("[config]\ndefault_url_prefix = gs://bucket/me\nproject = example.com:lab\n")
    assert google.queue_url == "datastore://example.com:lab"
    named = load(None, "default_url_prefix=s3://bucket", "queue_url=sqlite:q.db")
    assert named.queue_url.startswith("sqlite:")


def test_a_queue_over_the_network_is_asked_less_often(load: Load) -> None:
    assert load().poll_s == 0.25
    far = load(None, "default_url_prefix=s3://bucket/me", "region=eu-west-1")
    assert (far.poll_s, far.origins["poll"]) == (3.0, "default")
    assert load(None, "queue_url=datastore://lab").poll_s == 3.0
    assert load(None, "default_url_prefix=s3://bucket/me", "queue_url=sqlite:q.db").poll_s == 0.25
    assert load(None, "queue_url=datastore://lab", "poll=1").poll_s == 1.0


def test_the_region_comes_from_the_aws_tool_and_says_so(load: Load, home: Path, tmp_path: Path) -> None:
    given = "[config]\ndefault_url_prefix = s3://bucket/me\n"
    usual = write(
        home / ".aws/config", "[default]\nregion = eu-west-1\n[profile lab]\ns3 =\n  a = b\nregion=us-west-2\n"
    )
    config = load(given)
    assert (config.region, config.queue_url) == ("eu-west-1", "dynamodb://eu-west-1/kubeq")
    assert config.origins["region"] == f"aws: {usual} [default]"
    assert load(given, environ={"AWS_PROFILE": "lab"}).region == "us-west-2"
    other = write(tmp_path / "other", "[default]\nregion = ap-south-1\n")
    assert load(given, environ={"AWS_CONFIG_FILE": str(other)}).region == "ap-south-1"
    chosen = load(given, environ={"AWS_DEFAULT_REGION": "sa-east-1", "AWS_PROFILE": "lab"})
    assert (chosen.region, chosen.origins["region"]) == ("sa-east-1", "AWS_DEFAULT_REGION")
    assert load(given, "region=eu-north-1", environ={"AWS_REGION": "sa-east-1"}).region == "eu-north-1"
    assert load(environ={"AWS_REGION": "sa-east-1"}).region is None, "nothing lies in a cloud"


def test_project_and_region_come_from_gcloud_and_say_so(load: Load, home: Path, tmp_path: Path) -> None:
    given = "[config]\ndefault_url_prefix = gs://bucket/me\n"
    folder = home / ".config/gcloud"
    usual = write(folder / "configurations/config_default", "[core]\nproject = lab\naccount = a@b\n")
    write(folder / "configurations/config_work", "[core]\nproject = work\n[compute]\nregion = europe-west4\n")
    config = load(given)
    assert (config.project, config.region, config.queue_url) == ("lab", None, "datastore://lab")
    assert config.origins["project"] == f"gcloud: {usual} [core]"
    write(folder / "active_config", "work\n")
    assert (load(given).project, load(given).region) == ("work", "europe-west4")
    assert load(given, environ={"CLOUDSDK_ACTIVE_CONFIG_NAME": "default"}).project == "lab"
    assert load(given, environ={"CLOUDSDK_CONFIG": str(tmp_path), "GOOGLE_CLOUD_PROJECT": "env"}).project == "env"
    assert load(given, "project=mine", environ={"GOOGLE_CLOUD_PROJECT": "env"}).project == "mine"


@pytest.mark.parametrize("text", ["", "region = x\n", "[default\n", "[default]\nregion\n", "\x00\x01"])
def test_a_broken_file_of_a_tool_is_as_none(load: Load, home: Path, text: str) -> None:
    write(home / ".aws/config", text)
    assert "lacks the key 'region'" in refusal(load, "[config]\ndefault_url_prefix = s3://bucket/me\n").message


def test_what_is_missing_is_told_with_the_file_and_with_what_mends_it(load: Load, cwd: Path) -> None:
    error = refusal(load, "[config]\ndefault_url_prefix = gs://bucket/me\n")
    assert error.message.startswith(f"{cwd}/settings lacks the key 'project'")
    assert "gs://bucket/me" in error.message
    assert "gcloud config set project PROJECT" in str(error.hint)
    without = refusal(load, None, "default_url_prefix=s3://bucket/me")
    assert "no configuration file" in without.message
    assert "region = VALUE" in str(without.hint)


def test_a_renamed_key_works_and_the_new_name_is_told(load: Load) -> None:
    config = load("[config]\nworker_linger = 30\n")
    assert (config.linger_s, config.linger_others_s) == (30.0, 30.0)
    assert load("[config]\nlinger = 2h\nlinger_others = 1h\n").linger_others_s == 3600.0
    assert "'worker_linger' is now called 'linger'" in config.notes[0]


def test_profiles_inherit_and_the_child_wins(load: Load) -> None:
    content = """
[config]
retries = 1
lease = 10
poll = 1
[profile base]
retries = 2
lease = 20
[profile child]
inherit = base
retries = 3
"""
    assert load(content).retries == 1
    config = load(content, profile="child")
    assert (config.retries, config.lease_s, config.poll_s) == (3, 20.0, 1.0)
    assert (config.profile, config.profiles) == ("child", ("base", "child"))


@pytest.mark.parametrize(
    ("content", "profile", "kind", "said"),
    [
        ("[profile a]\ninherit = b\n[profile b]\ninherit = a\n", "a", UsageError, "a -> b -> a"),
        ("[profile a]\ninherit = a\n", "a", UsageError, "a -> a"),
        ("[profile a]\ninherit = gone\n", "a", NotFound, "no profile 'gone', which 'a' inherits"),
        ("[profile a]\n", "b", NotFound, "no profile 'b'"),
        (None, "b", NotFound, "no configuration file"),
    ],
)
def test_profiles_that_lead_nowhere(load: Load, content: str, profile: str, kind: type[KubeqError], said: str) -> None:
    error = refusal(load, content, profile=profile, kind=kind)
    assert said in error.message
    assert error.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("retries = 1\n", "settings:1 stands before any section"),
        ("[config]\nretries\n", "settings:2 has no '='"),
        ("[config\nretries = 1\n", "settings:1 begins a section and does not end it"),
        ("[config]\n  retries = 1\n", "settings:2 is indented"),
        ("[config]\n\tretries = 1\n", "settings:2 is indented"),
        ("[config]\nretries = 1\n\nRetries: 2\n", "settings:4 sets 'retries' again; line 2 did already"),
        ("[config]\nno-wait = 1\nno_wait = 1\n", "settings:3 sets 'no_wait' again; line 2"),
        ("[config]\n[config]\n", "settings:2 begins [config] again; line 1 did already"),
        ("[profile a]\n[ profile  a ]\n", "settings:2 begins [profile a] again"),
        ("[conf]\n", "unknown section: [conf] (line 1)"),
        ("[profile]\n[profile a b]\n", "[profile] (line 1), [profile a b] (line 2)"),
        ("[config]\ninherit = a\n", "unknown key: 'inherit' (line 2)"),
        ("[config]\n= 1\n", "settings:2 has no '='"),
        (b"\xff\xfe[\0c\0", "UTF-16"),
        ("[config]\n".encode("utf-16-be"), "zero byte at byte offset 0"),
        (b"[config]\nimage = \xe9\n", "settings:2 is not valid UTF-8 (byte offset 17)"),
        (b"\x7fELF\0\0", "zero byte"),
        ("#" * (2**20 + 1), "larger than 1,048,576 bytes"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_its_line(load: Load, content: str | bytes, said: str) -> None:
    assert said in refusal(load, content).message


@pytest.mark.parametrize(
    "content", [b"", b"\n# nothing\n; here\n", b"\xef\xbb\xbf[config]\r\nretries = 0\r\n", b"[config]\rretries: 0"]
)
def test_an_empty_file_a_mark_and_any_line_ends_are_fine(load: Load, content: bytes) -> None:
    assert load(content).retries == 0


def test_a_value_may_be_continued_on_indented_lines(load: Load) -> None:
    config = load("[config]\nresults =\n  *.png\n  # not this\n\n\t*.csv\nignore = a b\nshell = yes\n")
    assert (config.results, config.ignore, config.shell) == (("*.png", "*.csv"), ("a b",), True)


def test_a_named_file_that_is_missing_a_directory_or_unreadable_is_named(load: Load, cwd: Path) -> None:
    assert "gone' does not exist" in refusal(load, file=Path("gone")).message
    assert "Is a directory" in refusal(load, file=cwd).message


def test_unknown_keys_are_all_named_and_the_nearest_is_suggested(load: Load) -> None:
    error = refusal(load, "[config]\nretrys = 1\nimage = x\n[profile p]\nfoo = 2\n")
    assert "unknown key: 'retrys' (line 2), 'foo' (line 5)" in error.message
    assert "'retries'" in str(error.hint)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("retries", "sets nothing"),
        ("=v", "sets nothing"),
        ("", "sets nothing"),
        ("a.b.c=v", "no key 'a.b.c'"),
        ("retrys=1", "no key 'retrys'"),
        ("retries=", "-o retries: '' is no whole number"),
        ("image=", "-o image: it has no value"),
    ],
)
def test_a_bad_override_is_refused(load: Load, text: str, said: str) -> None:
    assert said in refusal(load, None, text).message


def test_an_override_sets_exactly_that_key(load: Load) -> None:
    plain, changed = load(), load(None, "no-wait = yes", "results=a\nb")
    assert changed.no_wait and changed.results == ("a", "b")
    assert {name for name in KEYS if changed.origins[name] != plain.origins[name]} == {"no_wait", "results"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("retries", "-1"),
        ("retries", "1001"),
        ("retries", "1.5"),
        ("retries", "ten"),
        ("lease", "0"),
        ("lease", "100ms"),
        ("lease", "∞"),
        ("timeout", "10 m"),
        ("poll", "x"),
        ("log_limit", "0"),
        ("log_limit", "4 g"),
        ("default_resource_cpu", "0"),
        ("default_resource_cpu", "1/3"),
        ("default_resource_memory", "4"),
        ("resources", "gpus=half"),
        ("output", "xml"),
        ("color", "no"),
        ("network", "nat"),
        ("if_exists", "replace"),
        ("on_interrupt", "die"),
        ("runtime", "podman"),
        ("shell", "maybe"),
        ("provider", "nowhere"),
        ("user", "a b"),
        ("user", "1:"),
        ("user", "-x"),
        ("entrypoint", "'unbalanced"),
        ("mount", "/a"),
        ("mount", "/a:b"),
        ("mount", "/a:/b:rx"),
        ("mount", "/a:/"),
        ("mount", "/a:/../b"),
        ("env", "=x"),
        ("env", "A B=x"),
        ("env", "KUBEQ_X=1"),
        ("env", "NOT_SET_HERE"),
        ("queue_url", "queue.db"),
        ("queue_url", "mysql:x"),
        ("default_url_prefix", "ftp://host/x"),
        ("cas_url_prefix", "file:///x?token=secret"),
        ("queue_url", "postgres://u:secret@h/db"),
        ("default_url_prefix", "results"),
        ("default_url_prefix", "s3://key:secret@bucket/x"),
        ("state_dir", "a\0b"),
        ("project", "a b"),
        ("region", "-x"),
        ("cas_url_prefix", "gs://key:secret@bucket/x"),
        ("cd", "/abs"),
        ("cd", "a/../../b"),
        ("seq", "0"),
        ("seq", "3:1"),
    ],
)
def test_a_bad_value_is_refused_wherever_it_stands(load: Load, name: str, value: str) -> None:
    errors = [refusal(load, None, f"{name}={value}")]
    if "\0" not in value:
        errors.append(refusal(load, f"[config]\n{name} = {value}\n"))
    errors.append(refusal(load, environ={f"KUBEQ_{name.upper()}": value}))
    assert f"-o {name}: " in errors[0].message
    assert f"KUBEQ_{name.upper()}: " in errors[-1].message
    assert all("secret" not in f"{error.message}{error.hint}" for error in errors)
    if len(errors) == 3:
        assert f"settings:2, {name}: " in errors[1].message


@pytest.mark.parametrize(
    "name", ["", ".", "..", "LAST", "a/b", "a b", "*", "%", "a\n", "x" * 65, "-x", "é", "a.", "a\0"]
)
def test_a_name_that_not_every_backend_can_use_is_refused_with_the_rule(load: Load, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        with_flags(load(), {"name": name})
    assert "1 to 64 letters" in str(caught.value.hint)


@pytest.mark.parametrize(("typed", "means"), [(".", "."), ("./", "."), ("a//b/", "a/b")])
def test_the_directory_of_the_command_is_cleaned(load: Load, typed: str, means: str) -> None:
    assert load(None, f"cd={typed}").cd == means


def test_the_supported_providers_are_told(load: Load) -> None:
    assert "the values are ec2, gce, local, ssh" in str(refusal(load, None, "provider=vcloud").hint)


def test_values_of_every_kind_are_understood(load: Load, cwd: Path, home: Path) -> None:
    config = load(
        None,
        "lease=1m30s",
        "timeout=1h",
        "log_limit=1Mi",
        "resources=memory=2G",
        "default_resource_cpu=0.5",
        "network=none",
        "entrypoint=python -c 'a b'",
        "user=1000:100",
        "mount=data:/data:ro\n~/x:/x",
        "params=p.csv\n/abs/q.csv",
        "fetch=out",
        "shell=ON",
        "queue_url=sqlite:q.db",
        "state_dir=~/state",
    )
    assert (config.lease_s, config.timeout_s, config.log_limit) == (90.0, 3600.0, 2**20)
    assert config.task_resources == Resources(cpu=0.5, memory=2 * 10**9)
    assert (config.network, config.entrypoint, config.user) == (Network.NONE, ("python", "-c", "a b"), "1000:100")
    assert config.mount == (
        Mount(source=f"{cwd}/data", target="/data", read_only=True),
        Mount(source=f"{home}/x", target="/x"),
    )
    assert (config.params, config.fetch) == ((cwd / "p.csv", Path("/abs/q.csv")), cwd / "out")
    assert (config.shell, config.queue_url, config.state_dir) == (True, f"sqlite:{cwd}/q.db", home / "state")
    assert load(None, "entrypoint=image").entrypoint == ()


def test_paths_in_a_file_are_relative_to_the_file(load: Load, cwd: Path) -> None:
    (cwd.parent / ".kubeq").write_text("[config]\nstate_dir = state\nfetch = out\nqueue_url = sqlite:q.db\n")
    config = load()
    assert (config.state_dir, config.fetch) == (cwd.parent / "state", cwd.parent / "out")
    assert config.queue_url == f"sqlite:{cwd.parent}/q.db"


def test_the_image_follows_the_default_image_until_it_is_named(load: Load) -> None:
    config = load("[config]\ndefault_image = mine:1\n")
    assert (config.image, config.origins["image"]) == ("mine:1", "default")
    assert with_flags(config, {"image": "other"}).container_image == "other"
    assert with_flags(config, {"image": "none"}).container_image is None
    assert with_flags(config, {"runtime": "process"}).container_image is None


def test_flags_replace_whole_values_and_absent_ones_change_nothing(load: Load) -> None:
    config = load("[config]\nresults = a\nshell = yes\n")
    same = with_flags(config, {"results": (), "shell": None, "retries": None})
    assert (same.results, same.shell) == (("a",), True)
    changed = with_flags(config, {"results": ["b", "c\nd"], "shell": False, "no_wait": True})
    assert (changed.results, changed.shell, changed.no_wait) == (("b", "c\nd"), False, True)
    assert changed.origins["no_wait"] == "--no-wait"
    with pytest.raises(UsageError, match="--timeout: 'x' is not a duration"):
        with_flags(config, {"timeout": "x"})


def test_names_have_no_environment_form(load: Load) -> None:
    assert load(environ={"KUBEQ_NAME": "x"}).name is None
    assert load("[config]\nname = x\n").name == "x"


def test_a_slip_in_a_variable_is_noted_and_a_tasks_own_variables_are_not(load: Load) -> None:
    assert "did you mean KUBEQ_RETRIES?" in load(environ={"KUBEQ_RETRYS": "1"}).notes[0]
    own = dict.fromkeys(
        ("KUBEQ_JOB", "KUBEQ_TASK_INDEX", "KUBEQ_PARAM_IMAGE", "KUBEQ_NODE_NAME", "KUBEQ_AGENT_POLL"), "1"
    )
    assert load(environ={**own, "KUBEQ_ATTEMPT": "1", "KUBEQ_PEERS": "x", "KUBEQ_CHECKPOINT": "x"}).notes == ()


def test_no_key_shares_its_variable_with_a_tasks_own() -> None:
    own = re.compile(r"KUBEQ_(JOB|TASK_.*|ATTEMPT|NODE_NAME|PARAM_.*|PEERS|CHECKPOINT|AGENT_.*|CONFIG|PROFILE)")
    assert not [key.variable for key in KEYS.values() if own.fullmatch(key.variable)]


@pytest.mark.parametrize("mode", [0o666, 0o602, 0o640])
def test_a_file_that_others_may_write_is_refused(load: Load, cwd: Path, mode: int) -> None:
    (cwd / ".kubeq").write_text("[config]\n")
    (cwd / ".kubeq").chmod(mode)
    if mode & 0o022:
        assert "can be written by everybody" in refusal(load).message
    else:
        assert load().path == cwd / ".kubeq"


def test_a_file_that_a_shared_group_may_write_is_refused(load: Load, cwd: Path) -> None:
    (cwd / ".kubeq").write_text("[config]\n")
    (cwd / ".kubeq").chmod(0o660)
    groups = [group for group in os.getgroups() if group != os.getgid()] or ([100] if os.getuid() == 0 else [])
    if not groups:
        pytest.skip("this user is in one group only")
    os.chown(cwd / ".kubeq", -1, groups[0])
    error = refusal(load)
    assert "can be written by its group" in error.message
    assert "chmod go-w" in str(error.hint)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_refused(load: Load, cwd: Path) -> None:
    (cwd / ".kubeq").write_text("[config]\n")
    os.chown(cwd / ".kubeq", 12345, -1)
    assert "belongs to another user (uid 12345)" in refusal(load).message


def test_variables_come_from_files_then_from_env_and_bare_names_from_here(load: Load, cwd: Path) -> None:
    (cwd / "one").write_text("\ufeff# comment\n\nA=1\r\nB=x=y z\nHERE\n")
    (cwd / "two").write_text("A=2\n  C=\n")
    config = load(None, "env_file=one\ntwo", "env=D=4\nHERE2", environ={"HERE": "h", "HERE2": "i\nj"})
    assert dict(task_environment(config)) == {"A": "2", "B": "x=y z", "HERE": "h", "C": "", "D": "4", "HERE2": "i\nj"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"A=1\n=x\n", "vars:2: '' cannot be a variable's name"),
        (b"A=1\nexport B=2\n", "vars:2: 'export B'"),
        (b"KUBEQ_JOB=1\n", "vars:1: the variable KUBEQ_JOB is kubeq's own"),
        (b"NOT_SET_HERE\n", "vars:1: the variable NOT_SET_HERE has no value here"),
        (b"A=\xff\n", "byte offset 2"),
        (b"A=\0\n", "vars:1: the value of the variable A"),
    ],
)
def test_a_bad_file_of_variables_is_refused_with_its_line(load: Load, cwd: Path, content: bytes, said: str) -> None:
    (cwd / "vars").write_bytes(content)
    with pytest.raises(UsageError) as caught:
        task_environment(load(None, "env_file=vars"))
    assert said in caught.value.message


def test_a_missing_file_of_variables_is_named(load: Load) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        task_environment(load(None, "env_file=gone"))


def test_values_of_variables_are_neither_in_the_repr_nor_in_what_is_shown(load: Load) -> None:
    config = load(None, "env=TOKEN=canary\nHERE", environ={"HERE": "canary", "OTHER": "canary"})
    assert "canary" not in repr(config)
    assert "canary" not in repr(shown_settings(config))
    assert {each.name: each.value for each in shown_settings(config)}["env"] == "TOKEN=...\nHERE=..."


def test_what_is_shown_can_be_written_into_a_file(load: Load) -> None:
    first = load(
        None,
        "mount=/a:/b:ro\n/c:/d",
        "results=x\ny",
        "shell=yes",
        "timeout=1.5",
        "network=none",
        "entrypoint=a b",
        "log_limit=1234567",
    )
    lines = [
        f"{each.name} = " + str(each.value).replace("\n", "\n  ")
        for each in shown_settings(first)
        if each.value is not None
    ]
    second = load("[config]\n" + "\n".join(lines))
    assert [each.value for each in shown_settings(second)] == [each.value for each in shown_settings(first)]
    assert len(shown_settings(first)) == len(KEYS)


def documented(key: Key) -> str:
    default = key.default_words
    shown = default if not default or "`" in default else f"`{default}`"
    return f"| `{key.name}` | {shown} | {key.help} |"


def test_the_documentation_has_every_key_with_its_default_and_meaning() -> None:
    lines = (ROOT / "docs/configuration.md").read_text().splitlines()
    rows = [line for line in lines if re.match(r"\| `[a-z0-9_]+` \|", line)]
    assert rows == [documented(key) for key in KEYS.values()]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    content=st.binary(max_size=60)
    | st.lists(
        st.sampled_from(
            ["[config]", "[profile a]", "inherit = a", " x", "retries = 1", "image:", "=", "#c", "", "lease=x"]
        ),
        max_size=6,
    ).map(lambda lines: "\n".join(lines).encode()),
    override=st.text(max_size=12),
)
def test_any_file_and_any_override_load_or_are_refused(load: Load, content: bytes, override: str) -> None:
    try:
        config = load(content, override, profile="a")
    except KubeqError as error:
        assert "\n" not in error.message
    else:
        assert set(config.origins) == set(KEYS)
