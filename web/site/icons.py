"""Icons by name, drawn in the page itself: outlines of Lucide in the colour of the text beside them.

Rules. An icon says nothing alone: text stands beside it or is read aloud. What is not in the folder is an error.

Does not know: where icons stand, their size.
"""

import re
from functools import cache
from typing import Final

from markupsafe import Markup

from web.site import vendored

_DRAWING: Final = re.compile(r"<svg[^>]*>(.*)</svg>", re.DOTALL)


@cache
def icon(name: str) -> Markup:
    """The drawing of an icon; ``name`` is its file's, from a template and never from a request.

    Raises:
        LookupError: there is no such icon.
    """
    path = vendored.FOLDER.parent / vendored.path_of("lucide-static", f"icons/{name}.svg")
    drawing = _DRAWING.search(path.read_text())
    assert drawing is not None, name
    lines = Markup(" ".join(drawing[1].split()))
    return Markup('<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">{}</svg>').format(lines)
