"""What the tests of kernels for GPUs share: lanes run one by one, and numba's simulator."""
