"""The one exception that a command line shows to its user."""


class InputError(Exception):
    """Something that the user gave, or that the machine lacks, stops the work.

    The message is one or two clear sentences: what was got, what was expected, what mends it.  Command lines print it
    as ``Error: ...`` and exit with code 1, without a traceback.
    """
