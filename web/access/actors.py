"""Who acts: a person signed in to the pages, a person at the terminal, a token, or the owner of the machine.

Rules. One record for all of them, so that what may be done and what is written of it are asked in one way. A name is as
records have it: ``user:LOGIN`` for people of ours, ``system:...`` for the machine.

Does not know: how a person proves who it is (web/access/users.py, tokens.py, kopeck/cli/person.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from billing.language import N_
from web.access.rights import EVERYTHING, Access, Right
from web.access.roles import AccessError
from web.access.users import User

Proof = Literal["password", "token", "os"]


class DeniedError(AccessError):
    """Who asks lacks the right."""

    default_code = "denied"


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts.

    proof: `password` or `token` of a user of ours, `os`: the operating system's word alone. address: of the client,
    empty at the terminal. request_id: of the request or command, for the record. claims: what the environment says of
    the person and nothing proves.
    """

    name: str
    access: Access
    proof: Proof
    address: str = ""
    request_id: str = ""
    claims: Mapping[str, str] = field(default_factory=dict)

    @property
    def login(self) -> str:
        """The login of a user of ours; empty for the machine."""
        kind, _, login = self.name.partition(":")
        return login if kind == "user" else ""

    def demand(self, right: Right) -> None:
        """Raises DeniedError where the right is not held, for any legal entity."""
        if not self.access.may(right):
            raise DeniedError(
                N_("%(who)s has no role with the right %(right)s"), who=self.login or self.name, right=right.value
            )


def actor_of(user: User, proof: Proof = "password", address: str = "", request_id: str = "") -> Actor:
    """A user of ours who has proven who it is."""
    return Actor(user.actor, user.access, proof, address, request_id)


def machine(name: str, request_id: str = "", claims: Mapping[str, str] | None = None) -> Actor:
    """The installation itself: its first start, a process of it, or the owner of its machine."""
    return Actor(name, EVERYTHING, "os", "", request_id, claims or {})
