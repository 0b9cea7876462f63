"""The key of a pool: made on this machine, allowed on the pool's hosts for as long as nodes of the pool live there.

With it every later command and the tunnels log in, so that the user's own keys (a forwarded agent, a hardware token)
are needed once. It opens no terminal, forwards no agent, and expires by itself when nobody removes it.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from kubeq.core.model import PoolId

LIFETIME_S = 30 * 86400
"""After so long sshd refuses the key by itself (`expiry-time`, sshd(8)); each launch moves the date."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolKey:
    """The private key's file, the mark by which its line is found again, and its public half."""

    path: Path
    mark: str
    public: str

    def line(self, now: float) -> str:
        """What authorized_keys is given."""
        until = time.strftime("%Y%m%d", time.gmtime(now + LIFETIME_S))
        return f'restrict,port-forwarding,pty,expiry-time="{until}" {self.public} {self.mark}'


def pool_key(state_dir: Path, pool: PoolId) -> PoolKey:
    """The pool's key, made if there is none yet. Two that make it at once end with the same one."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = key_path(state_dir, pool)
    folder = path.parent
    if not path.exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        content = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        temporary = folder / f"key.{secrets.token_hex(6)}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(handle, "wb") as file:
            file.write(content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        finally:
            temporary.unlink()
    private = serialization.load_ssh_private_key(path.read_bytes(), None)
    public = private.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return PoolKey(path=path, mark=key_mark(pool), public=public.decode())


def key_mark(pool: PoolId) -> str:
    """What stands in the key's line of authorized_keys, and in no other."""
    return f"kubeq-pool-{pool}"


def key_path(state_dir: Path, pool: PoolId) -> Path:
    """Where the private key lies, if there is one."""
    return state_dir / "pools" / pool / "key"


def forget_key(state_dir: Path, pool: PoolId) -> None:
    """Drop the key here; the hosts have been told before."""
    key_path(state_dir, pool).unlink(missing_ok=True)
