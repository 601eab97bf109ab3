"""What can be wrong with an age file, told apart; to a caller all of it is Corruption or WrongKey."""

from __future__ import annotations

from etcdguard.errors import Corruption, WrongKey

__all__ = ["ArmorInvalid", "HeaderInvalid", "MacMismatch", "NoIdentityMatched", "PayloadInvalid"]

_ANOTHER_COPY = "fetch the object again or use another copy or an older backup"


class HeaderInvalid(Corruption):
    """The header is not age v1, breaks its grammar, ends early or asks for more than the limits allow."""

    def __init__(
        self, message: str, *, hint: str = f"if this should be an age v1 file, {_ANOTHER_COPY}"
    ) -> None:
        super().__init__(message, hint=hint)


class MacMismatch(Corruption):
    """The header parses and a file key was found, but the header was altered since it was written."""

    def __init__(self, message: str, *, hint: str = _ANOTHER_COPY) -> None:
        super().__init__(message, hint=hint)


class PayloadInvalid(Corruption):
    """A chunk does not authenticate, or the payload is cut short or goes on after its end."""

    def __init__(self, message: str, *, hint: str = _ANOTHER_COPY) -> None:
        super().__init__(message, hint=hint)


class ArmorInvalid(Corruption):
    """The ASCII armor around an age file breaks its grammar."""

    def __init__(
        self, message: str, *, hint: str = "use the file as age wrote it, without edits or mail quoting"
    ) -> None:
        super().__init__(message, hint=hint)


class NoIdentityMatched(WrongKey):
    """No identity or passphrase that was given opens the file."""

    def __init__(
        self,
        message: str,
        *,
        hint: str = "give the identity (or passphrase) of a recipient this file was made for",
    ) -> None:
        super().__init__(message, hint=hint)
