"""Records to JSON and back, with a schema number. The one place that knows field names.

Absent values are left out of rows (a million rows are paid for by the byte) and come back as their defaults. A record
of a newer schema is refused and left as it is; fields that an older kubeq did not write get their defaults.
"""

from kubeq.core.wire.base import SCHEMA, Document, dumps, encode_resources, loads
from kubeq.core.wire.jobs import (
    decode_job,
    decode_node,
    decode_package,
    decode_pool,
    encode_job,
    encode_node,
    encode_package,
    encode_pool,
    encode_requests,
)
from kubeq.core.wire.machines import decode_machine, decode_machines, encode_machine, encode_machines
from kubeq.core.wire.outfits import decode_outfit, encode_outfit
from kubeq.core.wire.specs import decode_spec, encode_spec, unpinned
from kubeq.core.wire.tasks import (
    decode_attempt,
    decode_exit,
    decode_report,
    decode_task,
    decode_usage,
    encode_attempt,
    encode_exit,
    encode_report,
    encode_task,
    encode_usage,
    pending_body,
)

__all__ = [
    "SCHEMA",
    "Document",
    "decode_attempt",
    "decode_exit",
    "decode_job",
    "decode_machine",
    "decode_machines",
    "decode_node",
    "decode_outfit",
    "decode_package",
    "decode_pool",
    "decode_report",
    "decode_spec",
    "decode_task",
    "decode_usage",
    "dumps",
    "encode_attempt",
    "encode_exit",
    "encode_job",
    "encode_machine",
    "encode_machines",
    "encode_node",
    "encode_outfit",
    "encode_package",
    "encode_pool",
    "encode_report",
    "encode_requests",
    "encode_resources",
    "encode_spec",
    "encode_task",
    "encode_usage",
    "loads",
    "pending_body",
    "unpinned",
]
