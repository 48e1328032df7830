"""``python -m kopeck`` is the ``kopeck`` command."""

from kopeck.cli import main

main()
