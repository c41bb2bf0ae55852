"""The error that a user, not a developer, is meant to read."""


class UserError(ValueError):
    """Input that cannot be used: a file, a setting, a checkpoint.

    The message is one line that says what is wrong, where (``file:line`` or the YAML key) and the way out. The command
    line prints it without a traceback and exits with code 2.
    """


def require_probability(**shares: float) -> None:
    """Checks arguments that are probabilities of dropping something, by name.

    Raises:
        UserError: if one does not lie in [0, 1).
    """
    for name, share in shares.items():
        if not 0.0 <= share < 1.0:
            raise UserError(f"{name}={share} is not a probability in [0, 1)")
