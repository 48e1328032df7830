"""The two parents of everything that people and programs are told instead of an answer.

Rules. A `Refusal` is the caller's to mend: what was asked cannot be, nothing was changed, and asking again changes
nothing. The command answers it with status 2, a page with its sentence, the API with 4xx and its code. `Unavailable` is
nobody's fault: a database, the journal or a worker is away, nothing is known, and asking later may help. Status 1, a
503. Everything else is a mistake of ours.

Does not know: languages. The sentence is English; whoever words it in another language goes by code and values.
"""

from typing import Any, ClassVar


class Refusal(ValueError):
    """What was asked cannot be. ``str()`` is the sentence for people.

    code: snake_case, stable: programs and translations go by it. values: what the sentence names, for both.

    >>> refusal = Refusal("there is no order O-7", code="order_unknown", order="O-7")
    >>> str(refusal), refusal.code, refusal.values
    ('there is no order O-7', 'order_unknown', {'order': 'O-7'})
    """

    default_code: ClassVar[str] = "refused"

    def __init__(self, sentence: str, /, *, code: str = "", **values: Any) -> None:
        super().__init__(sentence)
        self.code = code or self.default_code
        self.values = values


class Unavailable(Exception):
    """What an answer needs is away, and nothing is known of what was asked. ``str()`` is the sentence for people."""
