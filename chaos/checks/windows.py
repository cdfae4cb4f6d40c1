"""The stretches of one injection that checks look at: calm before, fault, recovery after.

A signal counts from the beginning of the act, since an act takes its time (a server needs some to stop); lengths are
measured from the instant the act returned, as all clocks are.
"""

from chaos.scenario import Window

_END_OF_TIME = float("inf")
_CALM_SECONDS = 4.0  # less than a steady state has to last (slo/spec: 5 s), so that its edge is left out
_NOTHING = (0.0, 0.0)


def begun(window: Window) -> float | None:
    """Return when the act began, or when it returned if only that is known; ``None``: nothing was injected."""
    return window.injected if window.injection_started is None else window.injection_started


def calm(window: Window) -> tuple[float, float]:
    """Return the last seconds before the fault, of those in which steady state was shown; empty if it was not.

    Only these: right after an earlier injection its alert may still be active, and rightly.
    """
    act = begun(window)
    if act is None or window.baseline_steady is None:
        return _NOTHING
    return (window.baseline_steady - _CALM_SECONDS, act)


def fault(window: Window) -> tuple[float, float]:
    """Return from the beginning of the act to the beginning of the undo, or to the end of the recording."""
    act = begun(window)
    return _NOTHING if act is None else (act, _first(window.undo_started, window.undone))


def in_force(window: Window) -> tuple[float, float]:
    """Return the part of the fault in which it was there in full: the act had returned, the undo not begun."""
    return _NOTHING if window.injected is None else (window.injected, _first(window.undo_started, window.undone))


def whole(window: Window) -> tuple[float, float]:
    """Return from the beginning of the act to the end of the drain, or to the end of the recording."""
    act = begun(window)
    return _NOTHING if act is None else (act, _first(window.drained))


def since_injected(window: Window, t: float) -> float:
    """Return the seconds from the return of the act to ``t``; 0 for what happened while it was under way."""
    return max(0.0, t - (window.injected if window.injected is not None else t))


def _first(*ends: float | None) -> float:
    return next((end for end in ends if end is not None), _END_OF_TIME)
