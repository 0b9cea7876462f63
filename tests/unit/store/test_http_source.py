"""Sources on web servers: what pins a file, what cannot be pinned, and what a server may do to us."""

from __future__ import annotations

import hashlib
import time
from email.utils import formatdate

import pytest

from kubeq.core.manifest import Remote
from kubeq.errors import AccessDenied, BackendError, IntegrityError, ObjectNotFound, UsageError
from kubeq.store.http_source import HttpSite, refuse_metadata
from kubeq.store.patience import Patience
from kubeq.store.sources import RetryingSite
from tests.stand_ins.web import Page, Web

CONTENT = bytes(range(256)) * 1000
SUM = hashlib.sha256(CONTENT).hexdigest()


def date(ago_s: float) -> str:
    return formatdate(time.time() - ago_s, usegmt=True)


OLD, OLDER = date(1000), date(5000)
JUST_NOW = "as the test runs, which may be minutes later"


def remote(url: str, pin: str, size: int = len(CONTENT)) -> Remote:
    return Remote("here", url, pin, size)


@pytest.fixture
def site() -> HttpSite:
    return HttpSite()


@pytest.mark.parametrize(
    ("headers", "pin"),
    [
        ({"ETag": '"abc"'}, 'etag:"abc"'),
        ({"ETag": '"abc"', "Last-Modified": OLD}, 'etag:"abc"'),
        ({"ETag": 'W/"abc"', "Last-Modified": OLD}, "modified:" + OLD),
        ({"Last-Modified": OLD}, "modified:" + OLD),
    ],
    ids=["tag", "tag and time", "weak tag and time", "time"],
)
def test_a_file_is_pinned_by_what_its_server_says(web: Web, site: HttpSite, headers: dict[str, str], pin: str) -> None:
    web.pages["/f"] = Page(content=CONTENT, headers=headers)
    (found,) = site.look(f"{web.url}/f")
    assert (found.pin, found.size) == (pin, len(CONTENT))
    with site.open(remote(found.url, found.pin)) as stream:
        assert stream.read() == CONTENT


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ETag": 'W/"abc"'},
        {"ETag": "abc"},
        {"Last-Modified": JUST_NOW},
        {"Last-Modified": date(-1000)},
        {"Last-Modified": "yesterday"},
        {"Last-Modified": OLD, "Date": ""},
    ],
)
def test_what_nothing_pins_is_refused_unless_the_user_does(web: Web, site: HttpSite, headers: dict[str, str]) -> None:
    told = {name: date(5) if value == JUST_NOW else value for name, value in headers.items()}
    web.pages["/f"] = Page(content=CONTENT, headers=told)
    with pytest.raises(UsageError, match="cannot be pinned") as caught:
        site.look(f"{web.url}/f")
    assert "#sha256=" in str(caught.value.hint)
    (found,) = site.look(f"{web.url}/f#sha256={SUM.upper()}")
    assert (found.url, found.pin) == (f"{web.url}/f", f"sha256:{SUM}")


@pytest.mark.parametrize("headers", [{"Content-Length": ""}, {"Content-Encoding": "gzip"}])
def test_what_has_no_size_is_refused(web: Web, site: HttpSite, headers: dict[str, str]) -> None:
    web.pages["/f"] = Page(content=CONTENT, headers={"ETag": '"abc"'} | headers)
    with pytest.raises(UsageError, match="does not say how large it is"):
        site.look(f"{web.url}/f")


def test_a_time_of_change_is_compared_as_a_pin(web: Web, site: HttpSite) -> None:
    web.pages["/f"] = Page(content=CONTENT, headers={"Last-Modified": OLD})
    with pytest.raises(IntegrityError, match=f"was modified:{OLDER} and is modified:{OLD} now"):
        site.open(remote(f"{web.url}/f", f"modified:{OLDER}"))


def test_a_pin_that_the_server_sends_no_more_is_a_change(web: Web, site: HttpSite) -> None:
    web.pages["/f"] = Page(content=CONTENT)
    with pytest.raises(IntegrityError, match=r'was etag:"a" and is etag:nothing now'):
        site.open(remote(f"{web.url}/f", 'etag:"a"'))


@pytest.mark.parametrize("start", [0, 10])
def test_another_size_is_a_change_whatever_the_pin(web: Web, site: HttpSite, start: int) -> None:
    web.pages["/f"] = Page(content=CONTENT)
    with pytest.raises(IntegrityError, match=f"and is {len(CONTENT)} bytes instead of 99 now"):
        site.open(remote(f"{web.url}/f", f"sha256:{SUM}", 99), start)


@pytest.mark.parametrize(("code", "transient"), [(400, False), (429, True), (500, True), (503, True), (501, False)])
def test_a_server_that_says_no_is_quoted(web: Web, site: HttpSite, code: int, transient: bool) -> None:
    web.pages["/f"] = Page(status=code)
    with pytest.raises(BackendError, match=f"{web.url}/f cannot be read: {code}") as caught:
        site.look(f"{web.url}/f?signature=secret")
    assert caught.value.transient is transient
    assert "secret" not in caught.value.message


@pytest.mark.parametrize("code", [401, 403])
def test_a_server_that_refuses_us_is_access_denied(web: Web, site: HttpSite, code: int) -> None:
    web.pages["/f"] = Page(status=code)
    with pytest.raises(AccessDenied, match="may not be read"):
        site.look(f"{web.url}/f")


@pytest.mark.parametrize("code", [404, 410])
def test_what_is_not_there_is_not_found(web: Web, site: HttpSite, code: int) -> None:
    web.pages["/f"] = Page(status=code)
    with pytest.raises(ObjectNotFound):
        site.look(f"{web.url}/f")


def test_redirects_are_followed_to_where_the_file_is(web: Web, site: HttpSite) -> None:
    target = web.put("/there", CONTENT)
    web.pages["/f"] = Page(status=302, headers={"Location": target})
    (found,) = site.look(f"{web.url}/f")
    assert found.size == len(CONTENT)
    with site.open(remote(f"{web.url}/f", found.pin), 5) as stream:
        assert stream.read() == CONTENT[5:]
    web.pages["/f"] = Page(status=302, headers={"Location": "file:///etc/passwd"})
    with pytest.raises(BackendError, match="cannot be read: 302"):
        site.look(f"{web.url}/f")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_goes_on_with_or_without_ranges(web: Web, ranges: bool) -> None:
    url = web.put("/f", CONTENT, ranges=ranges, cuts=2, refusals=1)
    pauses: list[float] = []
    site = RetryingSite(HttpSite(), Patience(sleep=pauses.append))
    pin = web.pages["/f"].headers["ETag"]
    with site.open(remote(url, f"etag:{pin}")) as stream:
        assert stream.read() == CONTENT
    assert len(pauses) == 3
    assert [asked is not None for _, asked in web.asked] == [False, False, True, True]


def test_a_server_that_dies_in_the_middle_is_worth_another_try(web: Web, site: HttpSite) -> None:
    url = web.put("/f", CONTENT, cuts=1)
    stream = site.open(remote(url, f"etag:{web.pages['/f'].headers['ETag']}"))
    with stream as source, pytest.raises(BackendError, match="more expected") as caught:
        source.read()
    assert caught.value.transient


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://", "is not a URL"),
        ("http:///x", "is not a URL"),
        ("http://h:x/", "is not a URL"),
        ("http://h:99999/", "is not a URL"),
        ("http://[::1/x", "is not a URL"),
        ("http://h/a b", "is not a URL"),
        ("http://h/a\nb", "is not a URL"),
        ("http://ä.example/", "is not a URL"),
        ("http://ada:secret@h/x", "user name or a password"),
        ("http://h/x#part", "no checksum"),
        ("http://h/x#sha256=abc", "no checksum"),
        ("http://h/x#md5=" + "0" * 32, "no checksum"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(site: HttpSite, url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        site.look(url)
    assert "secret" not in caught.value.message


def test_letters_beyond_ascii_are_sent_as_browsers_send_them(web: Web, site: HttpSite) -> None:
    web.put("/%C3%A9%20x", CONTENT)
    (found,) = site.look(f"{web.url}/é%20x")
    assert found.url == f"{web.url}/%C3%A9%20x"


class Peer:
    """A connection as far as it is looked at: whom it leads to."""

    def __init__(self, address: str) -> None:
        self._address = address
        self.closed = False

    def getpeername(self) -> tuple[str, int]:
        return (self._address, 80)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    "address",
    ["169.254.169.254", "169.254.170.2", "fe80::1%eth0", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200"],
)
def test_the_addresses_where_clouds_keep_a_nodes_credentials_are_no_sources(address: str) -> None:
    peer = Peer(address)
    with pytest.raises(UsageError, match="is where clouds hand out a machine's credentials"):
        refuse_metadata(peer, "metadata.example")
    assert peer.closed


@pytest.mark.parametrize("address", ["127.0.0.1", "93.184.216.34", "10.0.0.1", "::1", "2606:2800::1"])
def test_other_addresses_are(address: str) -> None:
    peer = Peer(address)
    refuse_metadata(peer, "example")
    assert not peer.closed


def test_the_proxy_of_the_environment_is_used(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.put("/f", CONTENT)
    monkeypatch.setenv("http_proxy", web.url)
    monkeypatch.setenv("no_proxy", "")
    (found,) = HttpSite().look("http://host.invalid/f")
    assert found.size == len(CONTENT)
    assert web.asked == [("http://host.invalid/f", None)]


def test_a_name_that_does_not_resolve_may_do_so_later(site: HttpSite) -> None:
    with pytest.raises(BackendError, match="cannot be read") as caught:
        site.look("http://host.invalid/f")
    assert caught.value.transient
