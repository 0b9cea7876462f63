"""How an agent runs a command: one protocol, one module a way."""
