"""What a user may call a job: names that every backend, file system and command line can use."""

from __future__ import annotations

import re

JOB_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}[A-Za-z0-9]|[A-Za-z0-9]")
JOB_NAME_RULE = "1 to 64 letters, digits, '.', '_' or '-', with a letter or digit at both ends"
RESERVED_NAMES = frozenset({"LAST"})
"""Which stand for a job wherever one may be named."""
