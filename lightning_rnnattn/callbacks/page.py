"""A page on which a reader points at a token and sees where the model looked from there.

Letters: H heads, T queries, S keys.
"""

import base64
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from lightning_rnnattn.modules.views import AttentionView


def attention_page(examples: Mapping[str, Sequence[AttentionView]], *, title: str, subtitle: str = "") -> str:
    """Makes one HTML file that needs no other and no network.

    Args:
        examples: what an example is called → its views, at least one.
        title: said at the top.
        subtitle: said under it.
    """
    data = {"examples": [{"name": name, "views": [_plain(view) for view in views]} for name, views in examples.items()]}
    parts = {"title": html.escape(title), "subtitle": html.escape(subtitle), "data": _embedded(data)}
    page = files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    for name, part in parts.items():  # the data is last, so that nothing is filled into text of a user's
        page = page.replace(f"{{{{{name}}}}}", part)
    return page


def _plain(view: AttentionView) -> dict[str, Any]:
    # In steps of 1/65535, rounded up, so that what was seen a little is not said to be unseen.
    steps = np.ceil(view.weights.clamp(0, 1).numpy() * 65535).astype("<u2")
    return {
        "name": view.name,
        "queries": view.queries,
        "keys": view.keys,
        "heads": len(steps),
        "weights": base64.b64encode(steps.tobytes()).decode("ascii"),
    }


def _embedded(data: Any) -> str:
    """JSON that can stand in a ``<script>``: nothing in it ends the element, or begins a comment."""
    text = json.dumps(data)  # all but ASCII is escaped, U+2028 too
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
