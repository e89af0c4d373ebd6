"""A zoo of unrolled solvers, written for the tests: each computes its iterates in PyTorch and exports in two forms."""
