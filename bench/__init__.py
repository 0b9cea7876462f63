"""Benchmarks: kubeq beside its peers, round by round in one run, so that the ratios hold on any machine."""
