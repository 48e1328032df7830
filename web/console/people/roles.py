"""Roles: the list, one more, and the matrix of rights of one, by menu.

Rules. What a form asks for goes through the approvals (web/access/approvals.py), so that it is done at once or waits
for a second person as the rule of who asks says. A form names the version of the role it was made of and has a key of
its own: a second press changes nothing, and of two administrators the second one is told.

Does not know: who may give which right (web/access/roles.py).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tornado.web import HTTPError

from billing.language import N_
from ratingcore.money import format_minor, parse_minor
from web.access.approval_kinds import ROLE
from web.access.approvals import request_or_act
from web.access.rights import ALONE, RIGHTS, Right
from web.access.roles import AccessError, Role, RoleRow, legal_entities, list_roles
from web.site.page import Page

NO_REASON: Final = "—"
MAX_FIELD_CHARS: Final = 500


@dataclass(frozen=True, slots=True)
class RoleForm:
    """What stands in the form. limits: text by right; entities: numbers of legal entities; errors: text by field."""

    name: str = ""
    rights: frozenset[str] = frozenset()
    limits: Mapping[str, str] = field(default_factory=dict)
    entities: frozenset[str] = frozenset()
    why: str = ""
    version: int | None = None
    key: str = ""
    errors: Mapping[str, str] = field(default_factory=dict)


class RolesPage(Page):
    """GET /roles."""

    needs = Right.ROLES_MANAGE
    section = "roles"

    async def get(self) -> None:
        """Every role, the system's first."""
        async with self.site.cursor() as cur:
            rows = await list_roles(cur)
            await self.record("roles_listed", "", "", cur)
        await self.show("roles.html", rows=rows)


class RolePage(Page):
    """/roles/new and /roles/ID: the matrix, its change, its removal."""

    needs = Right.ROLES_MANAGE
    section = "roles"

    async def get(self, number: str) -> None:
        """The matrix as it is."""
        await self._show(number, None)

    async def post(self, number: str) -> None:
        """Add, change or remove, or have it wait for a second person."""
        row = await self._row(number)
        form = self._typed()
        is_removal = self.get_body_argument("do", "") == "remove"
        arguments: dict[str, Any] = {"role": row.role.id if row else None, "version": form.version if row else None}
        if is_removal:
            arguments |= {"remove": True, "name": row.role.key if row else ""}
        else:
            limits, errors = self._limits(form)
            if errors:
                await self._refuse(number, form, errors)
                return
            arguments |= {"name": form.name, "rights": sorted(form.rights), "limits": limits}
            arguments["entities"] = sorted(form.entities)
        await self._ask(number, form, arguments)

    async def _ask(self, number: str, form: RoleForm, arguments: Mapping[str, Any]) -> None:
        why = form.why or ("" if self.access.reach(Right.ROLES_MANAGE) < ALONE else NO_REASON)
        try:
            async with self.site.transaction() as cur:
                outcome = await request_or_act(
                    cur, self.site.kinds, ROLE, arguments, self.actor, key=form.key, why=why, now=self.now
                )
        except AccessError as error:
            await self._refuse(number, form, {error.field or "": self.refusal(error)})
            return
        if outcome.approval is not None:
            await self.notify(N_("Your request waits for a second person."), "info")
            self.redirect(f"/approvals/{outcome.approval.id}", status=303)
            return
        await self.notify(N_("Role removed.") if arguments.get("remove") else N_("Role saved."))
        self.redirect("/roles", status=303)

    async def _refuse(self, number: str, form: RoleForm, errors: Mapping[str, str]) -> None:
        self.set_status(400)
        await self._show(number, form, errors)

    async def _row(self, number: str) -> RoleRow | None:
        if number == "new":
            return None
        async with self.site.cursor() as cur:
            row = next((row for row in await list_roles(cur) if str(row.role.id) == number), None)
        if row is None:
            raise HTTPError(404)
        return row

    async def _show(self, number: str, form: RoleForm | None, errors: Mapping[str, str] | None = None) -> None:
        row = await self._row(number)
        async with self.site.cursor() as cur:
            entities = await legal_entities(cur)
        numbers = {entity.id: entity.number for entity in entities}
        shown = form or (form_of(row, numbers) if row else RoleForm(key=secrets.token_hex(16)))
        menus: dict[str, list[Right]] = {}
        for right, note in RIGHTS.items():
            menus.setdefault(note.menu, []).append(right)
        values = {"menus": menus, "notes": RIGHTS, "entities": entities, "errors": errors or {}}
        needs_reason = self.access.reach(Right.ROLES_MANAGE) < ALONE
        await self.show("role.html", row=row, form=shown, number=number, needs_reason=needs_reason, **values)

    def _typed(self) -> RoleForm:
        version = self.get_body_argument("version", "")
        return RoleForm(
            self.get_body_argument("name", "")[:MAX_FIELD_CHARS],
            frozenset(self.get_body_arguments("right")),
            {right.value: self.get_body_argument(f"above.{right.value}", "")[:30] for right in Right},
            frozenset(self.get_body_arguments("entity")),
            self.get_body_argument("why", "")[:MAX_FIELD_CHARS],
            int(version) if version.isascii() and version.isdecimal() and len(version) < 9 else None,
            self.get_body_argument("key", "")[:100] or secrets.token_hex(16),
        )

    def _limits(self, form: RoleForm) -> tuple[dict[str, int], dict[str, str]]:
        """Limits of the rights that are ticked, and what is wrong with them."""
        limits, errors = {}, {}
        for name, text in form.limits.items():
            if name not in form.rights or not text.strip():
                continue
            try:
                limits[name] = int(parse_minor(text.replace(",", ".").replace(" ", "").replace("\u00a0", "")))
            except ValueError:
                errors[f"above.{name}"] = self._("Write a sum such as 5000 or 5000.50")
        return limits, errors


def form_of(row: RoleRow, numbers: Mapping[int, str]) -> RoleForm:
    """The form of a role as it is. numbers: of legal entities by id."""
    role: Role = row.role
    return RoleForm(
        role.key if role.code else role.name,
        frozenset(right.value for right in role.rights),
        {right.value: format_minor(above) for right, above in role.limits.items()},
        frozenset(numbers.get(entity, "") for entity in role.entities or ()),
        "",
        row.version,
        secrets.token_hex(16),
    )
