"""What the tests of generated C share: its programs, the C compilers of this machine, the MISRA report."""
