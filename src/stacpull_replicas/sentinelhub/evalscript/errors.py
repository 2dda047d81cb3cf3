"""What may be wrong with an evalscript: its text (known before a pixel is looked at), or what it does."""


class ScriptError(Exception):
    """The text cannot be read, or uses something that is not known here."""


class ScriptFault(Exception):  # noqa: N818 - what happens while it runs
    """The script failed while it ran: a name that is not defined, a value of the wrong kind."""
