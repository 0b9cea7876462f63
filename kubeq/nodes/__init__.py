"""What makes nodes appear and disappear: one protocol, one module a provider."""
