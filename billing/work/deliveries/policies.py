"""Policies as data: what of a kind's own policy is set otherwise, for the kind or for one recipient.

Rules. A recipient's fields stand above its kind's, and those above what the program says. A field that is not named is
not touched. What cannot be a policy is refused when it is written; what was written by a newer program and is not
understood leaves the kind's own in force.

Does not know: rows.
"""

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from billing.work.deliveries.ladder import Ladder
from billing.work.deliveries.records import DeliveryKind, DeliveryPolicy, DeliveryRefused

log = logging.getLogger(__name__)

Seconds = Annotated[int, Meta(ge=1, le=30 * 86_400)]
Count = Annotated[int, Meta(ge=1, le=100_000)]


class PolicyFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The fields of a policy that may be set; then_s, per_minute and hold_after_s take null for none."""

    waits_s: Annotated[tuple[Seconds, ...], Meta(max_length=100)] | UnsetType = UNSET
    then_s: Seconds | UnsetType | None = UNSET
    stop_s: Seconds | UnsetType = UNSET
    jitter_percent: Annotated[int, Meta(ge=0, le=99)] | UnsetType = UNSET
    time_out_s: Annotated[int, Meta(ge=1, le=300)] | UnsetType = UNSET
    concurrency: Annotated[int, Meta(ge=1, le=1_000)] | UnsetType = UNSET
    per_minute: Count | UnsetType | None = UNSET
    breaker_failures: Count | UnsetType = UNSET
    breaker_hold_s: Seconds | UnsetType = UNSET
    hold_after_s: Seconds | UnsetType | None = UNSET


_LADDER = ("waits_s", "then_s", "stop_s", "jitter_percent")


def policy_fields(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored or wanted body.

    Raises:
        DeliveryRefused: an unknown field, or a value out of bounds; the sentence names it.
    """
    try:
        parsed = msgspec.convert(dict(body), PolicyFields, strict=True)
    except msgspec.ValidationError as error:
        raise DeliveryRefused(f"policy: {str(error).replace('`$.', '`')}", code="delivery_policy_bad") from error
    fields = {name: getattr(parsed, name) for name in PolicyFields.__struct_fields__}
    return {name: value for name, value in fields.items() if value is not UNSET}


def policy_with(policy: DeliveryPolicy, fields: Mapping[str, Any]) -> DeliveryPolicy:
    """A policy with some fields set otherwise."""
    ladder: Ladder = replace(policy.ladder, **{name: fields[name] for name in _LADDER if name in fields})
    return replace(policy, ladder=ladder, **{name: value for name, value in fields.items() if name not in _LADDER})


class Policies:
    """Kinds with the policies in force for their recipients; replaced as a whole when the rows were read again."""

    def __init__(
        self, kinds: Mapping[str, DeliveryKind], rows: Mapping[tuple[str, str], Mapping[str, Any]] | None = None
    ) -> None:
        self.kinds = dict(kinds)
        self._fields: dict[tuple[str, str], dict[str, Any]] = {}
        for queue, body in (rows or {}).items():
            try:
                self._fields[queue] = policy_fields(body)
            except DeliveryRefused as error:
                log.error("delivery_policy_not_understood", extra={"queue": queue, "cause": str(error)})

    def of(self, kind: str, recipient: str) -> DeliveryPolicy:
        """The policy for one recipient."""
        fields = {**self._fields.get((kind, ""), {}), **self._fields.get((kind, recipient), {})}
        return policy_with(self.kinds[kind].policy, fields) if fields else self.kinds[kind].policy
