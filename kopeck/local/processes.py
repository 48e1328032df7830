"""Which processes of a `kopeck run` live on this machine, what they do and what they use.

Rules. Children are known by the mark that their parent puts into their environment (kopeck.local.supervisor), so any
command on the same data folder finds them, and processes of another folder are not taken for ours. Memory is the share
of the process (PSS) where the system tells it, else what is resident (RSS).

Does not know: whether they are healthy.
"""

from collections.abc import Iterator
from typing import NamedTuple

import psutil

from kopeck.local.supervisor import MARK, ChildSpec, child_specs
from kopeck.serve.roles import ROLES
from kopeck.settings import Settings

HEADINGS = ("process", "pid", "memory", "ports", "what it does")
_MEGABYTE = 1024 * 1024


class RunningProcess(NamedTuple):
    """ports: in words, health and metrics last."""

    name: str
    pid: int
    memory_bytes: int
    ports: str
    does: str

    def row(self) -> tuple[str, ...]:
        """Under HEADINGS."""
        return (self.name, str(self.pid), f"{self.memory_bytes / _MEGABYTE:,.0f} MB", self.ports, self.does)


def running_processes(settings: Settings) -> list[RunningProcess]:
    """The `kopeck run` of this data folder and its children; empty where none runs or none may be looked into."""
    specs = {("serve", *spec.arguments): spec for spec in child_specs(settings)}
    children, parents = [], set()
    for process in psutil.process_iter():
        try:
            parent, _, folder = process.environ().get(MARK, "").partition(":")
            words = tuple(process.cmdline())
            spec = next((spec for tail, spec in specs.items() if words[-len(tail) :] == tail), None)
            if folder == str(settings.data_path()) and spec is not None:
                children.append((spec, process))
                parents.add(int(parent))
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    order = list(specs.values())
    children.sort(key=lambda child: order.index(child[0]))
    return [
        *(line for pid in sorted(parents) for line in _parent_and_servers(pid)),
        *(_child(settings, spec, process) for spec, process in children),
    ]


def table_of(processes: list[RunningProcess]) -> list[str]:
    """The processes as lines of equal columns."""
    rows = [HEADINGS, *(process.row() for process in processes)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _child(settings: Settings, spec: ChildSpec, process: psutil.Process) -> RunningProcess:
    sections = [ROLES[role].section for role in spec.roles if ROLES[role].has_port]
    ports = [*(str(getattr(settings, section).port) for section in sections), f"health {spec.health_port}"]
    does = "; ".join(f"{role} {ROLES[role].does}, uses {ROLES[role].uses}" for role in spec.roles)
    return RunningProcess(spec.name, process.pid, _memory([process]), ", ".join(ports), does)


def _parent_and_servers(pid: int) -> Iterator[RunningProcess]:
    """The parent, and the embedded servers among its children."""
    try:
        parent = psutil.Process(pid)
        children = sorted(parent.children(), key=lambda child: child.pid)
    except psutil.NoSuchProcess:
        return
    yield RunningProcess("run", pid, _memory([parent]), "-", "keeps the others alive")
    for child in children:
        try:
            words = child.cmdline()
            family = [child, *child.children(recursive=True)]
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        if words and words[0].rpartition("/")[2].startswith("postgres"):
            yield RunningProcess("postgresql", child.pid, _memory(family), "socket", "the embedded database: the truth")
        elif "secantus" in words:
            port = words[words.index("--port") + 1]
            yield RunningProcess("journal", child.pid, _memory(family), port, "the embedded journal that people search")


def _memory(processes: list[psutil.Process]) -> int:
    total = 0
    for process in processes:
        try:
            total += _share(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return total


def _share(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except (psutil.AccessDenied, AttributeError):  # another user's process; a system without PSS
        return int(process.memory_info().rss)
