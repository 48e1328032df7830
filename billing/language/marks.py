"""Marks of texts that are told later: in tables of words, where no language is known yet.

Does not know: any language.
"""


class Message(str):
    """A text with a context: what tells two uses of one English word apart."""

    __slots__ = ("context",)

    context: str

    def __new__(cls, context: str, text: str) -> "Message":
        """The text itself, with its context beside it."""
        message = super().__new__(cls, text)
        message.context = context
        return message


def N_(text: str) -> str:
    """Mark a text for translation; ``Language.gettext`` tells it.

    >>> N_("Posted")
    'Posted'
    """
    return text


def NP_(context: str, text: str) -> Message:
    """Mark a text that means something else elsewhere; ``Language.gettext`` finds it by its context too.

    >>> NP_("bank", "Account").context
    'bank'
    """
    return Message(context, text)
