"""The C side that all back ends with a C interface share: state and header, weights, and the host driver."""

from unfoldc.kernels.printers.c_api.header import HOST_ALIGNMENT, StateLayout, header_text, state_layout
from unfoldc.kernels.printers.c_api.host_driver import host_driver_text
from unfoldc.kernels.printers.c_api.weights import weights_texts

__all__ = ["HOST_ALIGNMENT", "StateLayout", "header_text", "host_driver_text", "state_layout", "weights_texts"]
