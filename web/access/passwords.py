"""Which passwords may be used.

Rules. Long enough, not the login, and not among those that are guessed first (NIST SP 800-63B, 5.1.1.2). The list of
known bad ones is zxcvbn's: 30,000 passwords of known leaks beside 65,000 words and names, by how often they occur; it
is pinned and updated with the package, and zxcvbn also finds them in other spellings, reversed, repeated and joined.
What it lacks is Russian: the commonest words stand here, and a password typed in the other keyboard layout is judged as
the keys that were pressed.

Does not know: hashes, users.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from zxcvbn import zxcvbn

from billing.language import N_

MIN_PASSWORD_CHARS: Final = 10
MAX_PASSWORD_BYTES: Final = 1024
#: Guesses that must not find a password, as a power of ten: zxcvbn's score 2 and more (a throttled attack online).
MIN_GUESSES_LOG10: Final = 6
#: zxcvbn's work grows with the length; what is longer than this is judged by its beginning.
_JUDGED_CHARS: Final = 72

_CYRILLIC: Final = "йцукенгшщзхъфывапролджэячсмитьбюё"
_LATIN: Final = "qwertyuiop[]asdfghjkl;'zxcvbnm,.`"
_AS_LATIN: Final = str.maketrans(_CYRILLIC, _LATIN)
#: Words that Russian users take first, and what this system is called.
_WORDS: Final = """
    пароль любовь привет солнце наташа настя сергей андрей александр максим дмитрий виктория марина светлана кристина
    самсунг спартак россия москва зенит админ администратор оператор кассир бухгалтер биллинг платеж платежи касса
    абонент копейка компьютер красотка ангел любимая любимый kopeck billing payments administrator operator
"""

_SHORT: Final = N_("The password is too short: %(chars)s characters at least")
_LONG: Final = N_("The password is too long: %(octets)s bytes at most")
_GUESSED: Final = N_("This password is among the first that are guessed. Take several unrelated words")


class PasswordProblem(NamedTuple):
    """Why a password may not be used. message: marked for translation, values: what it names; code: for programs."""

    code: str
    message: str
    values: Mapping[str, int]


def problem_with_password(login: str, password: str) -> PasswordProblem | None:
    """Why a password may not be used; None if it may.

    >>> problem_with_password("anna", "parol").code
    'short'
    >>> problem_with_password("anna", "correct horse 42") is None
    True
    """
    if len(password) < MIN_PASSWORD_CHARS:
        return PasswordProblem("short", _SHORT, {"chars": MIN_PASSWORD_CHARS})
    if len(password.encode(errors="replace")) > MAX_PASSWORD_BYTES:
        return PasswordProblem(
            "long", N_("The password is too long: %(octets)s bytes at most"), {"octets": MAX_PASSWORD_BYTES}
        )
    if login in password.lower():
        return PasswordProblem("login_inside", N_("The password must not contain the login"), {})
    if is_guessed(password, login):
        return PasswordProblem("guessed", _GUESSED, {})
    return None


def is_guessed(password: str, login: str) -> bool:
    """Whether it is among the passwords that are guessed first."""
    spellings = {password[:_JUDGED_CHARS], password[:_JUDGED_CHARS].lower().translate(_AS_LATIN)}
    known = [login, *_WORDS.split(), *_WORDS.translate(_AS_LATIN).split()]
    return any(zxcvbn(spelling, known)["guesses_log10"] < MIN_GUESSES_LOG10 for spelling in spellings)
