"""The page as text; `tests/cli/test_inspect.py` looks at it in a browser."""

import base64
import json
import re

import numpy as np
import torch

from lightning_rnnattn import AttentionView
from lightning_rnnattn.callbacks.page import attention_page

NASTY = "</script><script>alert(1)</script><!--\u2028&amp;{{subtitle}}{{data}}"


def data(page):
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(text)


def test_text_of_a_user_s_stays_text():
    view = AttentionView.of(torch.ones(1, 1, 1), [NASTY], [NASTY], NASTY)
    page = attention_page({NASTY: [view]}, title="<b>title</b>", subtitle="<i>")
    assert page.count("<script") == 2  # the data, and the program
    assert "<b>title</b>" not in page
    assert "\u2028" not in page
    (example,) = data(page)["examples"]
    assert example["name"] == NASTY
    assert example["views"][0]["queries"] == [NASTY]


def test_weights_keep_their_order_and_zeros():
    weights = torch.tensor([[[0.0, 1e-7, 1.0], [0.25, 0.25, 0.5]]])
    view = AttentionView.of(weights, "ab", "cde")
    plain = data(attention_page({"x": [view]}, title=""))["examples"][0]["views"][0]
    back = np.frombuffer(base64.b64decode(plain["weights"]), "<u2").reshape(1, 2, 3) / 65535
    np.testing.assert_allclose(back, weights.numpy(), atol=2 / 65535)
    assert ((back > 0) == (weights.numpy() > 0)).all()


def test_nothing_is_fetched():
    page = attention_page({"x": [AttentionView.of(torch.ones(1, 1, 1), "a", "b")]}, title="")
    assert "http" not in page.replace("http-equiv", "")
    assert not re.search(r"(src|href|url|@import)\s*[=(]", page.replace("default-src", ""))


def test_padding_is_cut_and_half_precision_read():
    view = AttentionView.of(torch.ones(2, 5, 7, dtype=torch.bfloat16, requires_grad=True), "abc", "de", "v")
    assert view.weights.shape == (2, 3, 2)
    assert view.weights.dtype == torch.float32
