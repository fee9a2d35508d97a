"""The password and the kit as keys of a private drive. Pure, but slow on purpose."""

from contextlib import suppress

from tesra.crypto.passphrases import StretchRefused, fresh_stretch
from tesra.crypto.sealing import public_of
from tesra.kit.errors import Forbidden, Invalid
from tesra.kit.ids import new_id
from tesra.storage.keychain import Holder, Keychain, KeyDocument, new_holder, open_document

MIN_PASSWORD_CHARACTERS = 12


class PasswordTooShort(Invalid):
    """The password of a private drive has at least 12 characters."""


class KeyOutdated(Forbidden):
    """This does not open the drive any more: a newer recovery kit or password was made since."""


def check_password(password: str) -> None:
    if len(password) < MIN_PASSWORD_CHARACTERS:
        raise PasswordTooShort(
            way_out="It is all that keeps others from guessing it: take four or more random words."
        )


def password_holder(chain: Keychain, password: str) -> Holder:
    stretch = fresh_stretch()
    private = stretch.key(password)
    return new_holder(new_id("hld"), "password", private, chain=chain, stretch=stretch)


def password_key(document: KeyDocument, password: str) -> bytes | None:
    """The private key that the password makes, or None when it is another one."""
    for holder in document.of_kind("password"):
        if holder.stretch is None:
            continue
        with suppress(StretchRefused):
            private = holder.stretch.key(password)
            if public_of(private) == holder.public:
                return private
    return None


def opened(document: KeyDocument, private: bytes) -> Keychain:
    """The keychain, by whichever holder has this private key."""
    public = public_of(private)
    holder = next((one for one in document.holders if one.public == public), None)
    if holder is None:
        raise KeyOutdated(way_out="Use the newest recovery kit, or the drive's password.")
    return open_document(document, holder, private)
