"""Errors a user can cause or fix: each says what is wrong, what to type next, and the exit code of the command."""


class CxrError(Exception):
    """Base of all errors that are shown as two lines, without a traceback.

    Args:
        message: what is wrong, naming the file, key or value.
        hint: the next thing to type or change.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["CxrError"], tuple[str, str]]:
        # Errors cross process borders (workers): both arguments have to travel.
        return type(self), (self.message, self.hint)


class UsageError(CxrError):
    """A wrong option, path or combination of the two."""

    exit_code = 2


class RecipeError(CxrError):
    """A recipe that cannot be carried out as written."""

    exit_code = 2


class ShardsFailed(CxrError):
    """The run went through, but some shards are missing."""

    exit_code = 3


class DiskFull(ShardsFailed):
    """No space left; nothing half written was left behind."""


class MissingError(CxrError):
    """Weights, an optional package or the network are missing."""

    exit_code = 4


class MismatchError(CxrError):
    """What is on disk is not what was asked for, or not what its receipt says."""

    exit_code = 5
