"""The lines below the table of a profile: sizes, cost of a stamp, what is estimated, what an error is relative to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unfoldc.runtime.profile import Profile


def notes(profile: Profile) -> list[str]:
    """One line for each fact."""
    found = _sizes(profile)
    if profile.gpu is not None:
        found += profile.gpu.lines()
        found.append(f"putting a launch into a stream: {duration(profile.dispatch_seconds or 0.0)}")
    elif profile.dispatch_seconds is not None:
        found.append(f"the way into the compiled code and back: {duration(profile.dispatch_seconds)}")
    if profile.stamp_seconds is not None and profile.stamp_overhead is not None:
        cost, all_of_them = duration(profile.stamp_seconds), f"{profile.stamp_overhead:+.1%}"
        found.append(f"a stamp costs {cost}, all of them {all_of_them} (not in the times above)")
    elif profile.seconds_p50 is not None and not profile.on:
        found.append("this back end has no stamps: no times per iteration")
    found += profile.remarks
    if profile.error_of:
        found.append(f"error: {profile.error_of}")
    return [*found, f"note: {profile.note}"] if profile.note else found


def duration(seconds: float) -> str:
    """Seconds in a unit that a person reads: `16 ns`, `2.31 us`."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if abs(seconds) >= scale:
            return f"{seconds / scale:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def _sizes(profile: Profile) -> list[str]:
    """What the solver takes of the device, or of this computer."""
    if profile.flash_bytes is None:
        state = "of unknown size" if profile.state_bytes is None else f"{profile.state_bytes} bytes"
        return [f"constants {profile.constant_bytes} bytes, state {state}"]
    bound = profile.stack_bound_bytes
    most = "no bound is known" if bound is None else f"never more than {bound}"
    stack_text = "not measured" if profile.stack_bytes is None else f"{profile.stack_bytes} bytes (measured"
    stack_text += f" ({most})" if profile.stack_bytes is None else f"; {most})"
    whose = " as unfoldc builds it" if profile.on else ""
    where = "code and constants" if profile.has_system else "flash"
    found = [
        f"{where} {_of(profile.flash_bytes, profile.flash_limit_bytes)}, "
        f"RAM {_of(profile.ram_bytes, profile.ram_limit_bytes)}{whose}, "
        f"stack {stack_text}"
    ]
    if profile.ram_limit_bytes is not None and profile.ram_bytes is not None:
        left = profile.ram_limit_bytes - profile.ram_bytes - (bound if bound is not None else profile.stack_bytes or 0)
        fits = f"fits: {left} bytes of RAM are left" if left >= 0 else f"does not fit: {-left} bytes of RAM too much"
        found.append(fits)
    return found


def _of(size: int | None, limit: int | None) -> str:
    return f"{size} bytes" if limit is None else f"{size} of {limit} bytes"
