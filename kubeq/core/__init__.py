"""The pure part: words, rules and records. Standard library only; no I/O, no clock of its own, no logging."""
