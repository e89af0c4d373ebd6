"""What the assembler prints, read."""

from __future__ import annotations

from unfoldc.targets.cuda.report import KernelReport, kernel_report, parse_report

TEXT = """ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'solve' for 'sm_90'
ptxas info    : Function properties for solve
ptxas         .     256 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 128 bytes smem, 560 bytes cmem[0], 8 bytes cmem[2]
ptxas info    : Compile time = 8.771 ms
ptxas info    : Function properties for helper
    32 bytes stack frame, 4 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 90 registers
ptxas info    : Compiling entry function 'solve_stamped' for 'sm_90'
ptxas info    : Function properties for solve_stamped
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 29 registers, used 1 barriers
"""


def test_the_report_of_each_kernel_is_read() -> None:
    assert parse_report(TEXT) == {
        "solve": KernelReport(255, 16, 16, 288, 128, 560),
        "solve_stamped": KernelReport(29, 0, 0, 0, 0, 0),
    }
    assert parse_report("nothing of it") == {}


def test_a_report_comes_back_from_its_numbers() -> None:
    report = KernelReport(40, 8, 16, 24, 128, 560)
    assert kernel_report(report.to_dict()) == report
    assert kernel_report({"registers": 7, "spill_loads": "many"}) == KernelReport(registers=7)
