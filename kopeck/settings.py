"""Every setting of the program: one frozen record, read once per process at its composition root.

Sources, each over the one before: the defaults below; a TOML file (``--config``, else ``KOPECK_CONFIG``, else
``./kopeck.toml`` where it exists); environment variables ``KOPECK_<SECTION>__<NAME>`` (``KOPECK_DATA_DIR`` for the
one setting outside a section). An unknown name in either is an error, never ignored: a misspelt limit is no limit.

Rules. Units come last in a name. A list in the environment is separated by commas. Secrets may come from the
environment only, so that the file can be shown.

Does not know: what the settings mean to the rooms; the composition roots hand each room its own options.
"""

import inspect
import ipaddress
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Meta

from billing.refusals import Refusal

DEFAULT_FILE = "kopeck.toml"
PREFIX = "KOPECK_"
#: Environment names with our prefix that are not settings: the file's own name, tests, children of `kopeck run`.
NOT_SETTINGS = ("KOPECK_ACTOR", "KOPECK_CONFIG", "KOPECK_TOKEN", "KOPECK_TEST_", "KOPECK_SUPERVISED")


class SettingsError(Refusal):
    """The settings cannot be used; the message names the place and is meant for the operator."""


#: A line ``name: meaning`` of a section's docstring.
_MEANING = re.compile(r"^([a-z_]+): (.+)$", re.MULTILINE)

#: Settings that hold passwords.
_SECRETS = frozenset(
    {"database.dsn", "database.owner_dsn", "journal.uri", "gateway.key_passphrase", "deliveries.smtp_password"}
)

PositiveInt = Annotated[int, Meta(ge=1)]
Port = Annotated[int, Meta(ge=0, le=65535)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A record whose docstring has one line ``name: meaning`` a setting; the operators' table is made from them."""


class Database(_Section, frozen=True):
    """The accounts: PostgreSQL.

    dsn: libpq connection string of the program's role (`kopeck_app`); empty: embedded PostgreSQL
    owner_dsn: connection string of the owner, used by `kopeck migrate` alone; empty: embedded, or not known here
    """

    dsn: str = ""
    owner_dsn: str = ""


class Journal(_Section, frozen=True):
    """The payment journal: MongoDB.

    uri: MongoDB connection string; `embedded`: a server of this machine; empty: the same while `database.dsn` is empty
    database: name of the journal's database
    """

    uri: str = ""
    database: str = "kopeck"

    @property
    def is_embedded(self) -> bool:
        return self.uri in ("", "embedded")


class Gateway(_Section, frozen=True):
    """The partner port.

    host: address the partner port listens on
    port: partner port, shared by all gateway processes of the host
    processes: gateway processes `kopeck run` keeps alive
    lanes: database connections a process commits payment batches on
    batch_max: most requests decided in one transaction
    queue_max: requests that may wait for a batch; more get the protocol's temporary code at once
    request_deadline_s: longest a partner waits for an answer; then it is the protocol's temporary or in-progress code
    away_grace_ms: how long a request waits for a database that is away before it gets the temporary code
    lock_timeout_ms: longest wait of a batch for a row lock
    database_timeout_s: longest wait for an answer of the database; then the connection is given up
    line_max_bytes: longest request line
    header_max_bytes: most bytes of request line and headers together
    body_max_bytes: largest request body
    header_timeout_s: time to send the request line and headers, and longest idle time of a kept-alive connection
    body_timeout_s: time to send the body
    connections_max: open connections a process accepts; more are closed at once
    connections_per_address_max: of these, from one address that is no trusted proxy; 0: half of connections_max
    trusted_proxies: networks (CIDR) whose X-Forwarded-For is believed; everyone else's is ignored
    record_calls: keep checks, repeats and status questions as attempts for the search page
    attempts_keep_days: age at which `kopeck attempts forget` deletes attempts, at least 30
    contracts_poll_s: how often a process looks whether contracts changed
    key_passphrase: passphrase of our private keys stored in the database (a secret: prefer the environment)
    tls_cert: PEM file with the certificate chain; empty: plain HTTP
    tls_key: PEM file with the certificate's private key
    drain_s: on SIGTERM, time for requests in flight to be answered
    metrics_port: health and metrics of the first gateway process; the next ones take the next ports
    failpoints: crash tests only, refused where database.dsn is set: kill (`name`, `name:nth`) or stop (`name:nth:stop`)
    """

    host: str = "127.0.0.1"
    port: Port = 8080
    processes: PositiveInt = 2
    lanes: PositiveInt = 2
    batch_max: PositiveInt = 100
    queue_max: PositiveInt = 5_000
    request_deadline_s: PositiveInt = 20
    away_grace_ms: PositiveInt = 2_000
    lock_timeout_ms: PositiveInt = 1_000
    database_timeout_s: PositiveInt = 10
    line_max_bytes: PositiveInt = 4_096
    header_max_bytes: PositiveInt = 16_384
    body_max_bytes: PositiveInt = 65_536
    header_timeout_s: PositiveInt = 15
    body_timeout_s: PositiveInt = 15
    connections_max: PositiveInt = 2_000
    connections_per_address_max: Annotated[int, Meta(ge=0)] = 0
    trusted_proxies: tuple[str, ...] = ()
    record_calls: bool = True
    attempts_keep_days: Annotated[int, Meta(ge=30)] = 400
    contracts_poll_s: PositiveInt = 1
    key_passphrase: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    drain_s: PositiveInt = 15
    metrics_port: Port = 9180
    failpoints: tuple[str, ...] = ()


class Web(_Section, frozen=True):
    """The pages for people.

    host: address the web pages listen on
    port: port of the web pages
    session_hours: a sign-in lasts at most this long
    idle_minutes: a sign-in ends after a pause this long
    time_zone: zone of the dates people see and type, an IANA name
    cookie_secure: mark cookies Secure: `always`, `never`, or `auto`, which does so for requests that came by https
    trusted_proxies: networks (CIDR) whose X-Forwarded-For and X-Forwarded-Proto are believed
    tls_cert: PEM file with the certificate chain; empty: plain HTTP
    tls_key: PEM file with the certificate's private key
    drain_s: on SIGTERM, time for requests in flight to be answered
    metrics_port: health and metrics of the web process
    """

    host: str = "127.0.0.1"
    port: Port = 8081
    session_hours: PositiveInt = 12
    idle_minutes: PositiveInt = 60
    time_zone: str = "Europe/Moscow"
    cookie_secure: Literal["auto", "always", "never"] = "auto"
    trusted_proxies: tuple[str, ...] = ()
    tls_cert: str = ""
    tls_key: str = ""
    drain_s: PositiveInt = 15
    metrics_port: Port = 9171


class Relay(_Section, frozen=True):
    """From the outbox to the journal.

    batch_max: documents written to the journal in one go
    poll_ms: how often an idle relay looks into the outbox
    metrics_port: health and metrics of the relay
    """

    batch_max: PositiveInt = 500
    poll_ms: PositiveInt = 200
    metrics_port: Port = 9170


class Jobs(_Section, frozen=True):
    """Background jobs.

    processes: jobs a process of the role does at once, each in a child process
    queues: queues whose jobs it does; empty: all of them
    lease_s: a job whose process gives no sign of life for this long is taken from it
    poll_ms: how often an idle process looks for jobs that are due, beside the notices of new ones
    keep_days: age at which finished jobs are deleted, with their logs and results
    files_keep_days: age at which the content of files that jobs made is deleted
    drain_s: on SIGTERM, time for jobs under way; those that can begin again are asked to stop at once
    metrics_port: health and metrics of the process, where jobs is its first role
    """

    processes: Annotated[int, Meta(ge=1, le=64)] = 2
    queues: tuple[str, ...] = ()
    lease_s: Annotated[int, Meta(ge=1, le=3_600)] = 30
    poll_ms: PositiveInt = 2_000
    keep_days: PositiveInt = 90
    files_keep_days: PositiveInt = 7
    drain_s: PositiveInt = 30
    metrics_port: Port = 9172


class Schedules(_Section, frozen=True):
    """Schedules: which jobs begin when.

    poll_ms: how often a process of the role looks for instants that have come
    metrics_port: health and metrics of the process, where schedules is its first role
    """

    poll_ms: Annotated[int, Meta(ge=100, le=60_000)] = 1_000
    metrics_port: Port = 9173


class Deliveries(_Section, frozen=True):
    """What is sent to others: webhooks, mail.

    under_way_max: attempts a process makes at once
    poll_ms: how often an idle process looks for what is due
    lease_margin_s: how long after its time-out an attempt may still be told of; then its sender counts as dead
    drain_s: on SIGTERM, time for attempts under way
    event_source: the CloudEvents source of our events, a URI that names this installation
    webhook_networks: networks (CIDR) that are no public ones and may be sent webhooks
    webhook_plain_http: take endpoints without TLS
    webhook_proxy: HOST:PORT of the HTTP proxy that webhooks go through; empty: none
    smtp_host: the mail server that takes our letters; empty: no mail is sent
    smtp_port: its port
    smtp_tls: `starttls`, `tls` from the first byte, or `none`
    smtp_user: name to sign in with; empty: none
    smtp_password: its password (a secret: prefer the environment)
    smtp_ca_file: PEM file with the authority of its certificate; empty: the system's
    mail_from: sender of letters, such as Kopeck <billing@example.org>
    metrics_port: health and metrics of the process, where deliveries is its first role
    """

    under_way_max: Annotated[int, Meta(ge=1, le=5_000)] = 200
    poll_ms: PositiveInt = 200
    lease_margin_s: Annotated[int, Meta(ge=1, le=3_600)] = 30
    drain_s: PositiveInt = 30
    event_source: Annotated[str, Meta(pattern="^[!-~]{1,200}$")] = "urn:kopeck"
    webhook_networks: tuple[str, ...] = ()
    webhook_plain_http: bool = False
    webhook_proxy: str = ""
    smtp_host: str = ""
    smtp_port: Port = 587
    smtp_tls: Literal["starttls", "tls", "none"] = "starttls"
    smtp_user: str = ""
    smtp_password: str = ""
    smtp_ca_file: str = ""
    mail_from: str = ""
    metrics_port: Port = 9174


class Usage(_Section, frozen=True):
    """Files of usage.

    formats_dir: folder of format files (`NAME.toml`), relative to the working directory
    """

    formats_dir: str = "usage-formats"


class Billing(_Section, frozen=True):
    """The billing cycle.

    shard_payers: paying accounts of a shard; their balances are locked together for the end of its transaction
    reconnect_limit_s: how long the workers of a run wait for a database that is away
    second_person_above_minor: postings by hand of more than this wait for a second person; minor units, 0: all of them
    """

    shard_payers: Annotated[int, Meta(ge=1, le=1_000_000)] = 20_000
    reconnect_limit_s: PositiveInt = 120
    second_person_above_minor: Annotated[int, Meta(ge=0)] = 5_000_000


class AccessRules(_Section, frozen=True):
    """Who may act with the command.

    person_required: the command changes something only as a user (`--as LOGIN`, a token), as soon as one administers
    """

    person_required: bool = False


class Metrics(_Section, frozen=True):
    """Health and metrics of every process.

    host: address the health and metrics ports listen on; never a public one
    silent_s: `kopeck run` kills and replaces a process whose health port says nothing for this long
    """

    host: str = "127.0.0.1"
    silent_s: PositiveInt = 30


class Log(_Section, frozen=True):
    """What the processes say.

    level: least severity that is written
    format: `json`: one object a line; `text`; or `auto`: text on a terminal, JSON elsewhere
    """

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "json", "text"] = "auto"


class Settings(_Section, frozen=True):
    """Everything.

    data_dir: folder of the embedded databases and the demo's files, relative to the working directory
    """

    data_dir: str = ".kopeck"
    database: Database = Database()
    journal: Journal = Journal()
    gateway: Gateway = Gateway()
    web: Web = Web()
    relay: Relay = Relay()
    jobs: Jobs = Jobs()
    schedules: Schedules = Schedules()
    deliveries: Deliveries = Deliveries()
    usage: Usage = Usage()
    billing: Billing = Billing()
    access: AccessRules = AccessRules()
    metrics: Metrics = Metrics()
    log: Log = Log()

    def data_path(self) -> Path:
        return Path(self.data_dir).expanduser().absolute()


class SettingDoc(msgspec.Struct, frozen=True):
    """One line of the table in docs/operators.md."""

    name: str
    environment: str
    default: str
    meaning: str


def load_settings(path: str | None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings of this process.

    path: the file named on the command line, or None to look for KOPECK_CONFIG and ./kopeck.toml.

    Raises:
        SettingsError: unreadable file, unknown name, value of a wrong type or out of bounds.
    """
    environ = os.environ if environ is None else environ
    chosen = path or environ.get("KOPECK_CONFIG") or (DEFAULT_FILE if Path(DEFAULT_FILE).exists() else None)
    tree = _read_file(Path(chosen)) if chosen else {}
    if chosen:  # judged before the environment joins, so that the message can name the file
        _convert(tree, str(chosen), strict=True)
    names = _overlay(tree, environ)
    source = f"environment ({', '.join(names)})" if names else str(chosen or "defaults")
    settings = _convert(tree, source, strict=False)
    _check_together(settings)
    return settings


def documented_settings() -> Iterator[SettingDoc]:
    """Every setting in the order of the record, for the operators' table."""
    return _documented_all(Settings())


def effective_settings(settings: Settings) -> Iterator[tuple[str, str, str]]:
    """(name, value, meaning) of every setting as it is now; secrets are not shown."""
    for doc in _documented_all(settings):
        is_secret = doc.name in _SECRETS and doc.default != "empty"
        yield doc.name, "(set, not shown)" if is_secret else doc.default, doc.meaning


def _documented_all(settings: Settings) -> Iterator[SettingDoc]:
    yield from _documented("", settings)
    for name in Settings.__struct_fields__:
        if isinstance(section := getattr(settings, name), _Section):
            yield from _documented(name, section)


def _documented(section: str, record: _Section) -> Iterator[SettingDoc]:
    meanings = dict(_MEANING.findall(inspect.getdoc(type(record)) or ""))
    for field in record.__struct_fields__:
        value = getattr(record, field)
        if isinstance(value, _Section):
            continue
        name = f"{section}.{field}" if section else field
        environment = PREFIX + name.replace(".", "__").upper()
        yield SettingDoc(name, environment, _shown(value), meanings[field])


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if value == "" or value == ():
        return "empty"
    return ", ".join(value) if isinstance(value, tuple) else str(value)


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise SettingsError(f"cannot read settings file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}") from error


def _overlay(tree: dict[str, Any], environ: Mapping[str, str]) -> list[str]:
    """Put the environment's settings into the tree; return their names."""
    used = []
    known = {doc.environment: doc.name for doc in documented_settings()}
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name.startswith(NOT_SETTINGS):
            continue
        if name not in known:
            raise SettingsError(f"environment variable {name} names no setting (see docs/operators.md)")
        used.append(name)
        section, _, field = known[name].rpartition(".")
        place = tree.setdefault(section, {}) if section else tree
        place[field] = _from_text(section, field, environ[name])
    return used


def _from_text(section: str, field: str, text: str) -> Any:
    record = type(getattr(Settings(), section)) if section else Settings
    hint = get_type_hints(record)[field]
    if get_origin(hint) is tuple and get_args(hint):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _convert(tree: dict[str, Any], source: str, *, strict: bool) -> Settings:
    try:
        return msgspec.convert(tree, Settings, strict=strict)
    except msgspec.ValidationError as error:
        # msgspec says where by "$.gateway.port"; the operator wrote gateway.port
        raise SettingsError(f"{source}: {str(error).replace('`$.', '`')}") from error


def _check_together(settings: Settings) -> None:
    """What one field alone cannot say."""
    for section in ("gateway", "web"):
        record = getattr(settings, section)
        if bool(record.tls_cert) != bool(record.tls_key):
            raise SettingsError(f"{section}.tls_cert and {section}.tls_key belong together: name both or neither")
        for network in record.trusted_proxies:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise SettingsError(f"{section}.trusted_proxies: {error}") from error
    _check_deliveries(settings.deliveries)
    if not _is_zone(settings.web.time_zone):
        raise SettingsError("web.time_zone must be an IANA time zone, such as Europe/Moscow")
    if settings.database.owner_dsn and not settings.database.dsn:
        raise SettingsError(
            "database.owner_dsn is set but database.dsn is not: name both, or neither for the embedded one"
        )
    if settings.database.dsn and not settings.journal.uri:
        raise SettingsError(
            'database.dsn is set but journal.uri is not: name a MongoDB, or write journal.uri = "embedded" for a '
            "server of this machine, which asks for no password"
        )


def _check_deliveries(deliveries: Deliveries) -> None:
    for network in deliveries.webhook_networks:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise SettingsError(f"deliveries.webhook_networks: {error}") from error
    host, _, port = deliveries.webhook_proxy.rpartition(":")
    if deliveries.webhook_proxy and not (host and port.isascii() and port.isdecimal() and 0 < int(port) < 65_536):
        raise SettingsError("deliveries.webhook_proxy must be HOST:PORT")
    if bool(deliveries.smtp_host) != bool(deliveries.mail_from):
        raise SettingsError("deliveries.smtp_host and deliveries.mail_from belong together: name both or neither")


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ValueError, OSError, LookupError):  # a bad path, a folder of the database, no such zone
        return False
    return True
