"""The bench of workers, with the kinds of jobs that are served."""

from tests.kopeck.work.conftest import bench

__all__ = ["bench"]
