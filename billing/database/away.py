"""The one exception for a database that is away, whichever driver found it so.

Does not know: drivers, who waits how long for the database to come back.
"""

from billing.refusals import Unavailable


class DatabaseAway(Unavailable):
    """The connection never came up, broke off, timed out, or its statement was cancelled: the outcome is unknown."""
