"""`python -m kubeq`."""

from kubeq.cli.main import main

main()
