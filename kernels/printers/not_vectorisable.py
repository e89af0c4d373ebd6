"""What printers of several problems side by side say where a program has no such form."""


class NotVectorisable(ValueError):
    """The program has no form for several problems side by side; the message says why."""
