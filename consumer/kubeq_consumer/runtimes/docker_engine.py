"""The connection to the Docker engine of this machine: each thing we ask of it, with a bound in time, safe to repeat.

The only module that imports the docker library, on first use; none of its types or exceptions leaves it. What is asked,
and why, is decided in the other `docker_*` modules.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from kubeq.core.images import ImageName
from kubeq.errors import AccessDenied, BackendError
from kubeq.extras import docker_without_ssh
from kubeq_consumer.runtimes.docker_socket import Attached, Refusal, attach, ping

if TYPE_CHECKING:
    from docker import APIClient

Document = dict[str, Any]
T = TypeVar("T")
DEFAULT_URL = "unix:///var/run/docker.sock"
ANSWER_S = 120
"""The longest any answer may take. On a machine flooded with containers a start was seen to take 15 s."""
PING_S = 5
SILENT_PULL_S = 300
"""A pull that reports no progress for so long hangs."""
REPEAT_AFTER_S = (0.05, 0.25)
KEPT_CONNECTIONS = 32


class EngineGone(BackendError):
    """The engine does not answer: it is down, was restarted within the request, or hangs."""

    def __init__(self, message: str, *, hint: str | None = None, repeatable: bool = False) -> None:
        super().__init__(message, hint=hint, transient=True)
        self.repeatable = repeatable


class EngineRefused(BackendError):
    """The engine answered no, with an HTTP status."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message, transient=status >= 500)
        self.status = status


class Engine:
    """The engine behind one URL. Safe to use from several threads; connects on first use."""

    def __init__(self, url: str = DEFAULT_URL) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._client: APIClient | None = None
        self._machine: str | None = None

    @property
    def socket_path(self) -> str:
        """Raises BackendError for an engine that is not on this machine."""
        scheme, separator, path = self.url.partition("://")
        if scheme != "unix" or not separator or not path:
            raise BackendError(
                f"the Docker engine at {self.url} is not on this machine, so no work directory can be shown to it",
                hint="name its socket: DOCKER_HOST=unix:///var/run/docker.sock",
            )
        return path if path.startswith("/") else f"/{path}"

    def ping(self, timeout: float = PING_S) -> str:
        """The version of its API, asked over a fresh connection. Raises BackendError saying why it does not answer."""
        try:
            status, version = ping(self.socket_path, timeout)
        except PermissionError as error:
            raise AccessDenied(
                f"this user may not use the Docker engine at {self.url}",
                hint="join the group of its socket (sudo usermod -aG docker $USER; log in again), or use --image none",
            ) from error
        except TimeoutError as error:
            raise EngineGone(f"the Docker engine at {self.url} did not answer within {timeout:g} s") from error
        except (OSError, http.client.HTTPException) as error:
            raise EngineGone(
                f"no Docker engine answers at {self.url}: {error}", hint="start one, or use --image none"
            ) from error
        if status != 200:
            raise EngineGone(f"the Docker engine at {self.url} answers with status {status}")
        return version

    def machine(self) -> str:
        """The engine's architecture as images name it (`amd64`, `arm64`)."""
        if self._machine is None:
            self._machine = str(self._ask("its version", lambda client: client.version())["Arch"])
        return self._machine

    def state(self) -> Document:
        """What it says of itself and its machine ("Get system information")."""
        return dict(self._ask("its state", lambda client: client.info()))

    def keeps_containers(self) -> bool:
        """Whether containers outlive the engine (`live-restore`)."""
        return bool(self.state().get("LiveRestoreEnabled"))

    def create(self, name: str, body: Document) -> str:
        """The id of a new container. The name must never have been used: so an answer that was lost is found again."""
        try:
            what = f"the container {name}"
            answer = self._ask(what, lambda client: client.create_container_from_config(body, name))  # type: ignore[no-untyped-call]
        except EngineRefused as error:
            standing = self.inspect(name) if error.status == 409 else None
            if standing is None:
                raise
            return str(standing["Id"])
        return str(answer["Id"])

    def start(self, container: str) -> None:
        """Run it. Not repeated here: a container that has ended meanwhile would run again."""
        self._ask(f"the start of container {container[:12]}", lambda client: client.start(container), repeat=False)

    def attach(self, container: str) -> Attached:
        """Its output from now on."""
        version = self._connected().api_version
        try:
            attached = attach(self.socket_path, version, container, ANSWER_S)
        except (OSError, http.client.HTTPException) as error:
            raise EngineGone(f"the Docker engine at {self.url} gives no output: {error}") from error
        if isinstance(attached, Refusal):
            raise EngineRefused(attached.words, status=attached.status)
        return attached

    def wait(self, container: str) -> bool:
        """True once it does not run; False if it still did after a while (ask again)."""
        try:
            self._ask("the end of a container", lambda client: client.wait(container, timeout=ANSWER_S))
        except EngineGone as error:
            if error.repeatable:
                raise
            return False
        return True

    def inspect(self, container: str) -> Document | None:
        """Everything about a container; None if there is no such one."""
        try:
            return dict(self._ask("a container", lambda client: client.inspect_container(container)))
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    def kill(self, container: str, signal: str) -> None:
        """Send a signal to its first process; nothing if it does not run."""
        self._tolerating({404, 409}, "a signal", lambda client: client.kill(container, signal))

    def remove(self, container: str) -> None:
        """Kill and remove it with its anonymous volumes; nothing if it is not there."""
        what = f"the removal of container {container[:12]}"
        self._tolerating({404, 409}, what, lambda client: client.remove_container(container, v=True, force=True))

    def containers(self, label: str) -> Sequence[Document]:
        """Those that have the label (`name` or `name=value`), in whatever state."""
        return list(self._ask("its containers", lambda client: client.containers(all=True, filters={"label": label})))

    def image(self, name: str) -> Document | None:
        """Everything about an image that the engine has; None if it has none of that name."""
        try:
            return dict(self._ask("an image", lambda client: client.inspect_image(name)))  # type: ignore[no-untyped-call]
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise

    def pull(self, name: ImageName) -> str | None:
        """Fetch an image from its registry; the engine's own words if that failed, None if it is there now."""
        from docker import auth

        client = self._connected()
        parameters = {"fromImage": name.repository, "tag": name.digest or name.tag or "latest"}
        with _translated(self.url, f"the pull of {name.repository}"):
            registry, _ = auth.resolve_repository_name(name.repository)
            header = auth.get_config_header(client, registry)
            headers = {"X-Registry-Auth": header.decode() if isinstance(header, bytes) else header} if header else {}
            url = f"{client.base_url}/v{client.api_version}/images/create"
            with client.post(url, params=parameters, headers=headers, stream=True, timeout=SILENT_PULL_S) as answer:
                return _failure_in(answer.iter_lines())

    def close(self) -> None:
        """Close the connections; the next request makes new ones. Safe twice."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _tolerating(self, statuses: set[int], what: str, request: Callable[[APIClient], object]) -> None:
        try:
            self._ask(what, request)
        except EngineRefused as error:
            if error.status not in statuses:
                raise

    def _ask(self, what: str, request: Callable[[APIClient], T], *, repeat: bool = True) -> T:
        for pause in REPEAT_AFTER_S if repeat else ():
            try:
                return self._once(what, request)
            except EngineGone as error:
                if not error.repeatable:
                    raise
                time.sleep(pause)
        return self._once(what, request)

    def _once(self, what: str, request: Callable[[APIClient], T]) -> T:
        client = self._connected()
        with _translated(self.url, what):
            return request(client)

    def _connected(self) -> APIClient:
        with self._lock:
            if self._client is None:
                self._client = _client_of(self.url, self.socket_path, self.ping())
            return self._client


def _client_of(url: str, socket_path: str, version: str) -> APIClient:
    docker_without_ssh()
    from docker import APIClient
    from docker.transport import UnixHTTPAdapter

    class OnePool(UnixHTTPAdapter):
        """The library's adapter keeps a pool of connections for each URL, so that none is ever used again."""

        def get_connection(self, url: Any, proxies: Any = None) -> Any:
            return super().get_connection("http+docker://localhost", proxies)

    with _translated(url, "its version"):
        client = APIClient(base_url=url, version=version, timeout=ANSWER_S)
        client.trust_env = False  # proxies and .netrc are not for a socket, and are looked for at every request
        client.mount("http+docker://", OnePool(f"http+unix://{socket_path}", ANSWER_S, max_pool_size=KEPT_CONNECTIONS))
        return client


@contextmanager
def _translated(url: str, what: str) -> Iterator[None]:
    """The docker library's exceptions as ours."""
    from docker.errors import APIError, DockerException
    from requests.exceptions import ConnectionError as BrokenConnection
    from requests.exceptions import RequestException, Timeout

    try:
        yield
    except APIError as error:
        words = error.explanation or str(error)
        text = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        raise EngineRefused(text.strip(), status=error.status_code or 500) from error
    except Timeout as error:
        raise EngineGone(f"the Docker engine at {url} did not answer about {what} in time") from error
    except BrokenConnection as error:
        hung = "Read timed out" in str(error)  # so the library's library calls a stream that fell silent
        raise EngineGone(f"the Docker engine at {url} broke off over {what}: {error}", repeatable=not hung) from error
    except (RequestException, DockerException) as error:
        raise BackendError(f"the Docker engine at {url} gave no answer about {what}: {error}") from error


def _failure_in(lines: Iterator[bytes]) -> str | None:
    """The reason in the engine's report on a pull."""
    for line in lines:
        event: Mapping[str, Any] = json.loads(line) if line else {}
        if "error" in event or "message" in event:
            return str(event.get("error") or event["message"])
    return None
