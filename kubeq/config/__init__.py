"""The configuration: file + environment + flags -> one frozen Config. The only reader of either on this side.

`keys` is the one table of what can be set, with `machine_keys`, and `old_keys` for kubeque's names; `key` what one is;
`values` how each is written, with `container_values` and `machine_values`; `files`, `ini` and `profiles` how a file is
found and read and which of its sections count; `load` puts the layers together; `task_environment` is what a task's
command sees. Lowest precedence first: built-in default, environment (`KUBEQ_<NAME>`), file with its profiles, command
line.
"""

from __future__ import annotations

from kubeq.config.key import Key
from kubeq.config.keys import KEYS, MACHINE_KEYS, Config, Setting, settings
from kubeq.config.load import load_config, with_flags
from kubeq.config.task_environment import task_environment

__all__ = [
    "KEYS",
    "MACHINE_KEYS",
    "Config",
    "Key",
    "Setting",
    "load_config",
    "settings",
    "task_environment",
    "with_flags",
]
