"""Commands set aside because the clearing account of their partner is held by a transaction that does not end.

Rules. Batches mix partners, and a partner's clearing account is the last row of a batch: where another session holds it
(a paused process, a person's psql, a lost host) the batch fails by its lock time-out, and everybody's commands with it.
After the first such failure it is looked which rows are held, and the commands of their partners wait here, out of the
lanes' way, until the row is free or their callers' deadline has passed. So a partner never waits for another's row
longer than one lock time-out.

Does not know: SQL, what is decided.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from gateway.payments.batches import Waiting


def clearing_of(waiting: Waiting) -> int | None:
    """The clearing account a command's money moves through; None for a person's cancel, whose partner is not known."""
    terms = waiting.command.terms
    return None if terms is None else terms.clearing_account_id


def by_partner(batch: Iterable[Waiting]) -> list[list[Waiting]]:
    """A batch parted by clearing account, each part in arrival order."""
    parts: dict[int | None, list[Waiting]] = {}
    for waiting in batch:
        parts.setdefault(clearing_of(waiting), []).append(waiting)
    return list(parts.values())


class Aside:
    """The commands by clearing account id, in arrival order."""

    def __init__(self, each_max: int) -> None:
        """each_max: commands of one account at most."""
        self._each_max = each_max
        self._waiting: dict[int, deque[Waiting]] = {}

    def __iter__(self) -> Iterator[Waiting]:
        for waiting in self._waiting.values():
            yield from waiting

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    @property
    def accounts(self) -> list[int]:
        """The clearing accounts that are held."""
        return sorted(self._waiting)

    def open(self, accounts: Iterable[int]) -> None:
        """From now on commands of these accounts wait here."""
        for account in accounts:
            self._waiting.setdefault(account, deque())

    def takes(self, waiting: Waiting) -> bool:
        """Whether a command's account is held."""
        return bool(self._waiting) and clearing_of(waiting) in self._waiting

    def put(self, waiting: Waiting) -> bool:
        """Let a command wait here; False when its account has too many."""
        account = clearing_of(waiting)
        assert account is not None
        if len(self._waiting[account]) >= self._each_max:
            return False
        self._waiting[account].append(waiting)
        return True

    def give_back(self, account: int) -> deque[Waiting]:
        """All commands of an account whose row is free."""
        return self._waiting.pop(account)

    def drop(self, is_over: Callable[[Waiting], bool]) -> list[Waiting]:
        """Remove and return the commands that ``is_over`` says were answered."""
        over = [waiting for waiting in self if is_over(waiting)]
        if over:
            for account, waiting in self._waiting.items():
                self._waiting[account] = deque(one for one in waiting if not is_over(one))
        return over
