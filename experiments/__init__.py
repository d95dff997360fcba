"""Experiments on the method itself; not part of the package. Results lie in results/."""
