"""An example address for every route that is opened (GET): by these each page is looked at in a browser.

A page with several faces has an example of each: filled, empty, with errors. ``{name}`` is an id of tests/web/seed.py
or tests/web/furnished.py.
"""

from typing import Final

#: Route of web.app.ROUTES -> addresses, as an administrator opens them.
EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "/profile": ("/profile",),
    "/profile/sessions": ("/profile/sessions",),
    "/profile/tokens": ("/profile/tokens",),
    "/payments": (
        "/payments?period=year",
        "/payments?min=abc&from=31.02.2026",
        "/payments?q=nothing-like-this",
    ),
    "/payments/([0-9]{1,19})": ("/payments/{posted}", "/payments/{conflicting}"),
    "/payments/([0-9]{1,19})/cancel": ("/payments/{to_cancel}/cancel", "/payments/{refused}/cancel"),
    "/attempts": ("/attempts",),
    "/customers": ("/customers", "/customers?name=nothing-like-this"),
    "/customers/([^/]{1,200})": ("/customers/A1",),
    "/orders": ("/orders",),
    "/orders/([^/]{1,200})": ("/orders/%23{order}",),
    "/runs": ("/runs",),
    "/runs/([0-9]{1,9})": ("/runs/{run}",),
    "/invoices": ("/invoices", "/invoices?total.min=abc"),
    "/invoices/([^/]{1,60})/explain": ("/invoices/I-000001/explain",),
    "/invoices/([^/]{1,60})": ("/invoices/I-000001", "/invoices/nothing"),
    "/partners": ("/partners",),
    "/partners/([a-z0-9][a-z0-9-]{0,31})": ("/partners/osmp",),
    "/users": ("/users",),
    "/users/([a-z0-9][a-z0-9._@-]{1,63})": ("/users/vera", "/users/anna"),
    "/roles": ("/roles",),
    "/roles/(new|[0-9]{1,9})": ("/roles/new", "/roles/{role}"),
    "/approvals": ("/approvals", "/approvals?view=mine"),
    "/approvals/([0-9]{1,18})": ("/approvals/{approval}",),
    "/audit": ("/audit",),
    "/search": ("/search", "/search?q=anna"),
    "/jobs": ("/jobs", "/jobs?state=done"),
    "/jobs/([0-9]{1,18})": ("/jobs/{running_job}", "/jobs/{failed_job}"),
    "/deliveries": ("/deliveries",),
    "/deliveries/queues": ("/deliveries/queues",),
    "/deliveries/([0-9]{1,18})": ("/deliveries/{waiting}", "/deliveries/{unknown}"),
    "/webhooks": ("/webhooks",),
    "/schedules": ("/schedules",),
    "/schedules/([a-z][a-z0-9-]{0,47})": ("/schedules/bills",),
}
#: As a stranger opens them.
STRANGERS: Final[dict[str, tuple[str, ...]]] = {"/sign-in": ("/sign-in", "/nothing-here")}
#: What is opened and is no page: why.
NOT_PAGES: Final[dict[str, str]] = {
    "/": "leads to the payments",
    "/payments[.]csv": "a file",
    "/payments/open": "leads to a payment",
    "/invoices/([^/]{1,60})/pdf": "a file",
    "/jobs/([0-9]{1,18})/files/([0-9]{1,18})": "a file",
}
