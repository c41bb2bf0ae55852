"""Predictions as a page to read: each example on its line, shaded by weight."""

from collections.abc import Mapping
from html import escape
from typing import Any

HEAD = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Predictions</title>
<style>
body { font: 16px/1.7 system-ui, sans-serif; color: #1f1b2d; background: #fff }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
article { display: grid; grid-template-columns: 9rem 1fr; gap: 1rem; padding: .5rem 0; border-top: 1px solid #e9e6f0 }
b { font-weight: 600 }
small { color: #857f96; margin-left: .4rem }
p { margin: 0; white-space: pre-wrap }
span { background: rgb(249 115 22 / calc(var(--w) * 90%)); border-radius: 3px; padding: .1rem 0 }
</style>
<body>
"""
_LINE_ENDS = {ord(end): f"&#{ord(end)};" for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
TAIL = "</body>\n</html>\n"


def html_row(row: Mapping[str, Any]) -> str:
    """One example in one line of HTML, everything escaped.

    Args:
        row: what is known of it, as ``predict_step`` says: ``text``; and, where there are, ``input`` (or ``source``),
            the ``tokens`` of which it consists with the ``weights`` of each, ``label`` and the ``probabilities`` of
            labels by name.
    """
    label = row.get("label", row["text"])
    names = [label] if isinstance(label, str) else label
    shares = row.get("probabilities", {})
    head = "<br>".join(
        f"<b>{_text(name)}</b>" + (f"<small>{shares[name]:.0%}</small>" if name in shares else "") for name in names
    )
    if "weights" in row and "tokens" in row:
        body = _shaded(row["input"], row["tokens"], row["weights"])
    else:
        body = _text(row.get("input", row.get("source", "")))
    return f"<article><div>{head}</div><p>{body}</p></article>"


def _shaded(text: str, tokens: list[str], weights: list[float]) -> str:
    """The text with a shade behind each token; the darkest is the one with the most weight."""
    strongest = max(weights, default=1.0) or 1.0
    parts, place = [], 0
    for token, weight in zip(tokens, weights, strict=True):
        begin = text.index(token, place)
        parts.append(_text(text[place:begin]))
        parts.append(f'<span style="--w:{weight / strongest:.2f}" title="{weight:.1%}">{_text(token)}</span>')
        place = begin + len(token)
    return "".join([*parts, _text(text[place:])])


def _text(text: str) -> str:
    """Escaped, and in one line: a row of a page is a line of its file."""
    return escape(text).translate(_LINE_ENDS)
