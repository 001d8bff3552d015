"""Errors that a person can act on."""


class T2IEvalError(Exception):
    """A fault of the input, the configuration or the environment, never of the program.

    The message is one sentence that names the thing and the way out. The command line prints it alone, without a
    traceback, and exits with status 1; every other exception is a bug and keeps its traceback.
    """
