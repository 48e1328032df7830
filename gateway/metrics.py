"""Prometheus metrics of the payment path, by the names operators put on dashboards.

Does not know: who serves them (kopeck.health does).
"""

from prometheus_client import Counter, Gauge, Histogram

REQUESTS = Counter("kopeck_gateway_requests_total", "Partner requests answered", ["partner", "op", "reason"])
REPLY_SECONDS = Histogram(
    "kopeck_gateway_reply_seconds",
    "From the request's last byte to the reply's first",
    buckets=(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20),
)
BATCH_COMMANDS = Histogram(
    "kopeck_gateway_batch_commands", "Commands in one transaction", buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500)
)
BATCHES_RUN_AGAIN = Counter("kopeck_gateway_batches_run_again_total", "Batches run again", ["cause"])
POISONOUS = Counter("kopeck_gateway_poisonous_commands_total", "Commands the database refused: wake someone")
QUEUED = Gauge("kopeck_gateway_queued_commands", "Commands waiting for a batch")
DATABASE_AWAY = Gauge("kopeck_gateway_database_away", "1 while no lane reaches PostgreSQL")
ATTEMPTS_DROPPED = Counter("kopeck_gateway_attempts_dropped_total", "Attempts not recorded because too many waited")
STRANGERS_COUNTED = Counter(
    "kopeck_gateway_strangers_counted_total",
    "Calls of callers that proved nothing, beyond those kept in full",
    ["kind"],
)
CONNECTIONS_REFUSED = Counter("kopeck_gateway_connections_refused_total", "Connections over the limit")
BROKEN_PARTNERS = Gauge("kopeck_gateway_broken_partners", "Partners whose contract or key does not parse")
