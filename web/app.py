"""The application of people's pages: routes, and the server they run on.

Rules. Every route names its handler here and nowhere else. Limits of a request have names. What the composition root
gives is one frozen record.

Does not know: what the pages do.
"""

import logging
import ssl
from pathlib import Path
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.web import Application, RequestHandler

from web.console import home, listings, search
from web.console.billing import invoices, orders, runs
from web.console.partners import partners
from web.console.payments import attempts, kept, payments
from web.console.people import approvals, customers, own, roles, sign_in, users
from web.console.system import audit, deliveries, jobs, schedules, webhooks
from web.site import page
from web.site.lists.pages import list_page
from web.site.site import Site, WebOptions

__all__ = ["Site", "WebOptions", "close", "make_app", "make_server"]

log = logging.getLogger(__name__)

#: Forms here are a few fields; the largest is a reason of 500 characters.
BODY_MAX_BYTES: Final = 64 * 1024
HEADER_MAX_BYTES: Final = 32 * 1024
BODY_TIMEOUT_S: Final = 20
IDLE_TIMEOUT_S: Final = 75

_CODE: Final = "([a-z0-9][a-z0-9-]{0,31})"
_LOGIN: Final = "([a-z0-9][a-z0-9._@-]{1,63})"

ROUTES: Final[tuple[tuple[str, Any], ...]] = (
    ("/", home.HomePage),
    ("/search", search.SearchPage),
    ("/sign-in", sign_in.SignInPage),
    ("/sign-out", sign_in.SignOutPage),
    ("/language", sign_in.LanguagePage),
    ("/appearance", sign_in.AppearancePage),
    ("/profile", sign_in.ProfilePage),
    ("/profile/sessions", own.OwnSessionsPage),
    ("/profile/tokens", own.OwnTokensPage),
    ("/payments", payments.PaymentsPage),
    ("/payments[.]csv", payments.PaymentsExport),
    ("/payments/open", payments.OpenPayment),
    ("/payments/views", kept.PaymentViewsPage),
    ("/payments/export", kept.PaymentsJobExport),
    ("/payments/([0-9]{1,19})", payments.PaymentPage),
    ("/payments/([0-9]{1,19})/cancel", payments.CancelPage),
    ("/attempts", attempts.AttemptsPage),
    ("/customers", list_page(listings.LISTINGS["customers"])),
    ("/customers/([^/]{1,200})", customers.CustomerPage),
    ("/orders", list_page(listings.LISTINGS["orders"])),
    ("/orders/([^/]{1,200})", orders.OrderPage),
    ("/runs", list_page(listings.LISTINGS["runs"])),
    ("/runs/([0-9]{1,9})", runs.RunPage),
    ("/lists/([a-z_]{1,40})/columns", listings.ColumnChoice),
    ("/lists/([a-z_]{1,40})/views", listings.Views),
    ("/lists/([a-z_]{1,40})/export", listings.Export),
    ("/lists/([a-z_]{1,40})/act", listings.Act),
    ("/invoices", list_page(listings.LISTINGS["invoices"])),
    ("/invoices/([^/]{1,60})", invoices.InvoicePage),
    ("/invoices/([^/]{1,60})/pdf", invoices.InvoicePdf),
    ("/invoices/([^/]{1,60})/explain", invoices.InvoiceExplainPage),
    ("/partners", partners.PartnersPage),
    (f"/partners/{_CODE}", partners.PartnerPage),
    (f"/partners/{_CODE}/state", partners.PartnerStatePage),
    ("/deliveries", deliveries.DeliveriesPage),
    ("/deliveries/queues", deliveries.QueuesPage),
    ("/deliveries/queues/state", deliveries.QueueStatePage),
    ("/deliveries/([0-9]{1,18})", deliveries.DeliveryPage),
    ("/deliveries/([0-9]{1,18})/act", deliveries.DeliveryActPage),
    ("/webhooks", webhooks.WebhooksPage),
    (f"/webhooks/{_CODE}/act", webhooks.WebhookActPage),
    ("/users", users.UsersPage),
    (f"/users/{_LOGIN}", users.UserPage),
    ("/roles", roles.RolesPage),
    ("/roles/(new|[0-9]{1,9})", roles.RolePage),
    ("/approvals", approvals.ApprovalsPage),
    ("/approvals/([0-9]{1,18})", approvals.ApprovalPage),
    ("/schedules", schedules.SchedulesPage),
    ("/schedules/([a-z][a-z0-9-]{0,47})", schedules.SchedulePage),
    ("/audit", audit.AuditPage),
    ("/jobs", jobs.JobsPage),
    ("/jobs/([0-9]{1,18})", jobs.JobPage),
    ("/jobs/([0-9]{1,18})/files/([0-9]{1,18})", jobs.JobFilePage),
)


def make_app(options: WebOptions) -> Application:
    """The application. ``close`` gives back what it took."""
    site = Site(options)
    here = Path(__file__).parent
    routes: list[Any] = [(path, handler, {"site": site}) for path, handler in ROUTES]
    return Application(
        routes,
        site=site,
        paths=frozenset(path for path, _ in ROUTES),
        has_search=any(path == "/search" for path, _ in ROUTES),
        log_function=log_request,
        static_path=str(here / "static"),
        static_handler_class=page.Files,
        default_handler_class=page.NotFound,
        default_handler_args={"site": site},
    )


def log_request(handler: RequestHandler) -> None:
    """One line a request, without the query: it holds people's numbers and names."""
    request, status = handler.request, handler.get_status()
    level = logging.INFO if status < 400 else logging.WARNING if status < 500 else logging.ERROR
    milliseconds = round(request.request_time() * 1000, 1)
    log.log(level, "%s %s %d", request.method, request.path, status, extra={"ms": milliseconds})


def make_server(app: HTTPServerConnectionDelegate, tls: ssl.SSLContext | None = None) -> HTTPServer:
    """An HTTP server for the application with its limits; the caller binds it."""
    return HTTPServer(
        app,
        ssl_options=tls,
        max_body_size=BODY_MAX_BYTES,
        max_buffer_size=BODY_MAX_BYTES + HEADER_MAX_BYTES,
        max_header_size=HEADER_MAX_BYTES,
        body_timeout=BODY_TIMEOUT_S,
        idle_connection_timeout=IDLE_TIMEOUT_S,
    )


async def close(app: Application) -> None:
    """Give back the application's connections; the journal and the core stay with the composition root."""
    await app.settings["site"].close()
