"""``python -m kopeck`` is the ``kopeck`` command."""

from kopeck.cli.main import main

main()
