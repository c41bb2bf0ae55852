"""The error that a user, not a developer, is meant to read."""


class UserError(ValueError):
    """Input that cannot be used: a file, a setting, a checkpoint.

    The message is one line that says what is wrong, where (``file:line`` or the YAML key) and the way out. The command
    line prints it without a traceback and exits with code 2.
    """


def require_probability(**shares: float) -> None:
    """Checks arguments that are probabilities below 1, by name: of dropping something, or a share to give away.

    Raises:
        UserError: if one does not lie in [0, 1).
    """
    for name, share in shares.items():
        if not 0.0 <= share < 1.0:
            raise UserError(f"{name}={share} is not a probability in [0, 1)")


def require_positive(owner: object, **sizes: int) -> None:
    """Checks arguments that are sizes or numbers of something, by name.

    Args:
        owner: whose arguments they are, for the message.
        sizes: the arguments.

    Raises:
        UserError: if one is below 1.
    """
    for name, size in sizes.items():
        if size < 1:
            raise UserError(f"{name}={size}: {type(owner).__name__} needs at least 1")
