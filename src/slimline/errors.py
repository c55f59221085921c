"""The one kind of failure that is the user's to mend."""


class SlimlineError(Exception):
    """Bad input, told in one line: what is wrong, where, and what to do.

    Commands print the message alone and exit with code 2; anything else that escapes is a bug of ours and keeps its traceback.
    """
