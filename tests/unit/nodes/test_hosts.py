"""Lists of hosts: every form that is understood, and every mistake of a hand-written file."""

from __future__ import annotations

from pathlib import Path

import pytest

from kubeq.core.resources import Resources
from kubeq.errors import UsageError
from kubeq.nodes.hosts import MOST_HOSTS, Host, check_keys, parse_address, read_hosts

HOME = Path("/home/ada")


def read(*texts: str, base: Path = Path("/nowhere")) -> tuple[Host, ...]:
    return read_hosts(texts, base, HOME)


def in_file(folder: Path, content: str | bytes) -> tuple[Host, ...]:
    path = folder / "hosts.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read("hosts.txt", base=folder)


def test_commas_and_spaces_separate_hosts_and_their_order_is_kept() -> None:
    assert [host.name for host in read("b,a c", "d")] == ["b", "a", "c", "d"]


@pytest.mark.parametrize(
    ("word", "parts"),
    [
        ("worker", (None, "worker", None)),
        ("ada@worker:2222", ("ada", "worker", 2222)),
        ("192.0.2.7:22", (None, "192.0.2.7", 22)),
        ("[2001:db8::1]:22", (None, "2001:db8::1", 22)),
        ("ada@[2001:db8::1]", ("ada", "2001:db8::1", None)),
        ("2001:db8::1", (None, "2001:db8::1", None)),
        ("a_b.example.org.", (None, "a_b.example.org.", None)),
    ],
)
def test_an_address_has_user_and_port(word: str, parts: tuple[str | None, str, int | None]) -> None:
    assert parse_address(word) == parts


@pytest.mark.parametrize(
    "word",
    [
        *("-oProxyCommand=x", "ada@-x", "@host", "host:", "host:0", "host:65536", "host:ssh"),
        *("[::1", "[::1]22", "a:b:c", "a b@c", "ho$t", "", "host/", "[host]:22", "-l@host"),
    ],
)
def test_what_is_no_address_is_refused(word: str) -> None:
    with pytest.raises(UsageError):
        parse_address(word)


def test_a_file_has_a_host_a_line_with_settings_and_comments(tmp_path: Path) -> None:
    first, second = in_file(
        tmp_path,
        "# ours\n\n ada@192.0.2.7:2222  name=gpu1 key=~/.ssh/lab slots=4 label=rack=b label=os=12 # the old one\r\n"
        "worker2\tresources=cpu=8,memory=32G\n",
    )
    assert first == Host(
        name="gpu1",
        address="192.0.2.7",
        user="ada",
        port=2222,
        key=HOME / ".ssh/lab",
        resources=Resources(cpu=4.0),
        labels=(("rack", "b"), ("os", "12")),
    )
    assert first.written == "hosts.txt:3"
    assert second.resources == Resources(cpu=8.0, memory=32 * 10**9)


def test_a_file_saved_by_a_spreadsheet_or_with_commas_at_its_lines_ends_is_read(tmp_path: Path) -> None:
    assert [host.name for host in in_file(tmp_path, b"\xef\xbb\xbfa,\r\nb,\r\n")] == ["a", "b"]


def test_every_mistake_of_a_file_is_named_with_its_line(tmp_path: Path) -> None:
    content = (
        "one slots=0\ntwo user\nthree colour=red\nfour:99999\n-oProxyCommand=x\nsix key=id_rsa\n"
        "seven port=x\neight name=..\nnine slots=1 slots=2\nten slots=1 resources=cpu=2\neleven label=x\n"
        "twelve resources=cpu=lots\nfine\nfine\nother name=fine\nthirteen user=a@b\n"
    )
    with pytest.raises(UsageError) as wrong:
        in_file(tmp_path, content)
    for line in (*range(1, 13), 14, 15, 16):
        assert f"hosts.txt:{line}: " in wrong.value.message
    assert "hosts.txt:13:" not in wrong.value.message


@pytest.mark.parametrize("content", [b"", b"\n# none\n", b"\xff\xfe", b"a\0b", b"caf\xe9\n"])
def test_a_file_that_holds_no_hosts_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UsageError):
        in_file(tmp_path, content)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UsageError, match=r"/nowhere/my/hosts"):
        read("my/hosts")


@pytest.mark.parametrize("word", ["missing.txt", "Missing.HOSTS", "one,two.yaml"])
def test_a_word_that_ends_as_files_do_is_no_host_where_there_is_no_such_file(word: str) -> None:
    with pytest.raises(UsageError, match=f"the hosts file '/nowhere/{word.rpartition(',')[2]}' cannot be read"):
        read(word)


def test_a_host_that_is_called_as_files_are_is_meant_with_its_user_and_port() -> None:
    assert [host.name for host in read("node.cfg:22,ada@box.list:22,txt,a.example.org")] == [
        "node.cfg", "box.list", "txt", "a.example.org",
    ]  # fmt: skip


def test_every_key_that_is_not_there_is_named_once(tmp_path: Path) -> None:
    there, gone = tmp_path / "there", tmp_path / "gone"
    there.write_text("a key")
    hosts = in_file(tmp_path, f"a\nb key={there}\nc key={tmp_path}\nd key={gone}\ne key={gone}\n")
    with pytest.raises(UsageError) as wrong:
        check_keys(hosts, tmp_path / "usual")
    said = (
        f"the key '{tmp_path}/usual' does not exist",
        f"the key '{tmp_path}' is no file",
        f"the key '{gone}' does not exist",
    )
    assert wrong.value.message == "; ".join(said)


def test_hosts_that_need_no_key_of_the_configuration_or_have_it_pass(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("a key")
    check_keys(read("a"), None)
    check_keys(read("a"), tmp_path / "there")
    check_keys(in_file(tmp_path, f"a key={tmp_path / 'there'}\n"), tmp_path / "gone")


def test_a_list_is_not_endless() -> None:
    with pytest.raises(UsageError, match="the most"):
        read(" ".join(f"h{number}" for number in range(MOST_HOSTS + 1)))


def test_one_host_under_two_users_is_two() -> None:
    assert len(read("ada@one,bob@one")) == 2


def test_a_host_reads_as_it_would_be_typed() -> None:
    assert [str(host) for host in read("a ada@b:23 [::1]:24")] == ["a", "ada@b:23", "[::1]:24"]
