"""kubeq: submit a batch of commands and have them run in containers, anywhere."""

__version__ = "0.1.0"
