"""The one error of this package."""


class SimulatorError(Exception):
    """Something was asked of the simulator that it cannot do; the text says what, and what it could do."""
