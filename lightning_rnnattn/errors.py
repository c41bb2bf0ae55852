"""The error that a user, not a developer, is meant to read."""


class UserError(ValueError):
    """Input that cannot be used: a file, a setting, a checkpoint.

    The message is one line that says what is wrong, where (``file:line`` or the YAML key) and the way out. The command
    line prints it without a traceback and exits with code 2.
    """
