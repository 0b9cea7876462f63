"""A package on every node, those that come later too, each starting it once."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from tests.homes import Home, eventually


def test_every_node_unpacks_a_package_and_starts_it_once_also_one_that_comes_later(home: Home) -> None:
    home.env["KUBEQ_LINGER"] = home.env["KUBEQ_LINGER_OTHERS"] = "60"
    ran = home.root / "ran"
    package = home.cwd / "web"
    package.mkdir()
    launch = f"echo here is $KUBEQ_NODE_NAME; cat page; wc -l < $KUBEQ_PEERS; echo $KUBEQ_NODE_NAME >> {ran}\n"
    (package / "vcloud-launch").write_text(launch)
    (package / "page").write_text("welcome\n")
    home.run("pool", "up", "1")
    (first,) = eventually(home.agents, "the first node is up", home)
    eventually(lambda: home.json("nodes")["nodes"][0]["state"] == "active", "it has told", home)
    assert home.json("inject", "web")["nodes"] == [first]
    eventually(ran.exists, "the first node has started it", home)
    home.run("pool", "up", "1")
    eventually(lambda: len(ran.read_text().splitlines()) == 2, "the second one has too", home)
    second = next(name for name in home.agents() if name != first)
    assert "web: welcome" in eventually(lambda: _log(home, second, "has ended well"), "its log tells", home)
    assert "is there already" in home.run("inject", "web").stdout
    os.kill(home.agents()[first], signal.SIGKILL)
    again = home.json("inject", "--again", "web")
    assert (again["number"], again["new"]) == (2, True)
    eventually(lambda: ran.read_text().splitlines().count(second) == 2, "it has been started again there", home)
    assert ran.read_text().splitlines().count(first) == 1


def _log(home: Home, node: str, until: str) -> str | None:
    log = home.run("logs", node).stdout
    return log if until in log else None


def test_what_is_no_package_is_refused_with_a_hint(home: Home) -> None:
    Path(home.cwd / "empty").mkdir()
    done = home.run("inject", "empty", code=2)
    assert done.stderr == "error: the package empty holds no file\nhint: it needs a program to start: kubeq-launch\n"
