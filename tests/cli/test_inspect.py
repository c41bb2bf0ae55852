"""`inspect`: the page, looked at in a real browser."""

import shutil

import pytest
import torch

from lightning_rnnattn import AttentionView
from lightning_rnnattn.callbacks.page import attention_page
from lightning_rnnattn.cli import main

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no chromium among the programs")
    flags = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        yield (chromium := started.chromium.launch(executable_path=CHROMIUM, args=flags))
        chromium.close()


class Screen:
    """An open page, what went wrong in it, and what it fetched."""

    def __init__(self, browser, path, **options):
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.wrong, self.fetched = [], []
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("dialog", lambda dialog: (self.wrong.append(dialog.message), dialog.dismiss()))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto(path.as_uri())

    def token(self, i, box="queries"):
        return self.page.locator(f"#{box} > span[data-i='{i}']")

    def chosen(self):
        return int(self.page.locator("#queries > span.chosen").get_attribute("data-i"))

    def shares(self, box="queries"):
        """What each token's share is said to be, in percent."""
        titles = self.page.locator(f"#{box} > span").evaluate_all("spans => spans.map(span => span.title)")
        return [float(title.removesuffix(" %")) for title in titles]

    def button(self, control, name):
        return self.page.locator(f"#{control} button", has_text=name).first


@pytest.fixture
def look(browser):
    screens = []

    def run(path, **options):
        screens.append(Screen(browser, path, **options))
        return screens[-1]

    yield run
    for screen in screens:
        assert screen.wrong == []
        assert [url for url in screen.fetched if not url.startswith("file:")] == []
        screen.context.close()


@pytest.fixture
def written(checkpoint, workdir):
    """The page that the command writes, of the session's language model (window 4)."""
    main(["inspect", "--ckpt_path", checkpoint, "--input=ROMEO: to be", "--input=To\nbe", "--output=page.html"])
    return workdir / "page.html"


@pytest.fixture
def made(workdir):
    """A page of two hypotheses, with words that would be markup."""
    source = ["<script>alert(1)</script>", "&amp;", "</script>", "<eos>"]
    first = torch.tensor([[[0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.25, 0.75]], [[0.1, 0.7, 0.1, 0.1], [0, 1.0, 0, 0]]])
    views = [
        AttentionView.of(first, ["one", "two"], source, "hypothesis 1"),
        AttentionView.of(first.flip(1), ["two", "one"], source, "hypothesis 2"),
    ]
    path = workdir / "made.html"
    path.write_text(attention_page({"<b>x</b>": views}, title="<i>t</i>"), encoding="utf-8")
    return path


@pytest.mark.browser
def test_pointing_at_a_token_shows_where_the_model_looked(look, written):
    screen = look(written)
    assert screen.page.locator("#queries").inner_text() == "ROMEO: to be"
    screen.token(9).hover()
    assert screen.chosen() == 9
    shares = screen.shares()
    assert [i for i, share in enumerate(shares) if share] == [6, 7, 8, 9]  # the window
    assert sum(shares) == pytest.approx(100, abs=0.3)
    screen.token(1).hover()
    assert [i for i, share in enumerate(screen.shares()) if share] == [0, 1]
    assert screen.token(5).get_attribute("class") == "unseen"
    screen.page.locator("#examples button").last.click()
    assert screen.page.locator("#queries").inner_text() == "To⏎\nbe"


@pytest.mark.browser
def test_a_click_holds_and_escape_lets_go(look, written):
    screen = look(written)
    screen.token(3).click()
    screen.token(8).hover()
    assert screen.chosen() == 3
    screen.page.keyboard.press("Escape")
    screen.token(7).hover()
    assert screen.chosen() == 7


@pytest.mark.browser
def test_keyboard_alone(look, made):
    screen = look(made)
    while not screen.page.evaluate("document.activeElement.closest('#queries')"):
        screen.page.keyboard.press("Tab")
    assert screen.chosen() == 0
    screen.page.keyboard.press("ArrowRight")
    assert screen.chosen() == 1
    assert screen.shares("keys") == [0, 50, 12.5, 37.5]  # the mean of the heads
    screen.page.keyboard.press("ArrowDown")
    assert screen.shares("keys") == [0, 0, 25, 75]
    screen.page.keyboard.press("ArrowDown")
    assert screen.shares("keys") == [0, 100, 0, 0]
    assert screen.button("heads", "2").get_attribute("aria-pressed") == "true"
    screen.page.keyboard.press("Home")
    assert screen.chosen() == 0


@pytest.mark.browser
def test_hypotheses_heads_and_order(look, made):
    screen = look(made)
    screen.button("heads", "2").click()
    screen.button("order", "Focused").click()
    ranks = screen.page.locator("#rank li").evaluate_all("items => items.map(item => item.dataset.i)")
    assert ranks == ["1", "0"]  # all on one token is the more focused
    screen.button("views", "hypothesis 2").click()
    assert screen.page.locator("#queries").inner_text().split() == ["two", "one"]
    screen.page.locator("#rank li[data-i='1']").click()
    assert screen.chosen() == 1


@pytest.mark.browser
def test_markup_in_data_is_shown_as_text(look, made):
    screen = look(made)
    assert screen.page.locator("#keys > span").all_inner_texts()[:3] == [
        "<script>alert(1)</script>",
        "&amp;",
        "</script>",
    ]
    assert screen.page.locator("h1").inner_text() == "<i>t</i>"


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_fits_a_phone_in_both_colours(look, made, scheme):
    screen = look(made, viewport={"width": 390, "height": 844}, color_scheme=scheme, has_touch=True)
    assert screen.page.evaluate("document.documentElement.scrollWidth") == 390
    red = int(screen.page.evaluate("getComputedStyle(document.body).backgroundColor").split("(")[1].split(",")[0])
    assert (red > 128) == (scheme == "light")
    screen.token(1).tap()
    assert screen.chosen() == 1


@pytest.mark.browser
def test_right_to_left(look, workdir):
    words = ["בית", "גדול", "של"]
    path = workdir / "rtl.html"
    path.write_text(attention_page({"x": [AttentionView.of(torch.ones(1, 3, 3) / 3, words, words)]}, title=""))
    screen = look(path)
    screen.token(0).click()
    screen.page.keyboard.press("ArrowLeft")
    assert screen.chosen() == 1
    assert screen.token(0).bounding_box()["x"] > screen.token(1).bounding_box()["x"]


@pytest.mark.browser
def test_names_with_spaces_are_kept_apart(look, workdir):
    view = AttentionView.of(torch.ones(1, 2, 2) / 2, ["pooling 1", "pooling 2"], ["good", "film"])
    path = workdir / "pooling.html"
    path.write_text(attention_page({"x": [view]}, title=""), encoding="utf-8")
    screen = look(path)
    first, second = (screen.token(i).bounding_box() for i in (0, 1))
    assert first["x"] + first["width"] < second["x"]


@pytest.mark.browser
def test_a_model_that_writes_nothing(look, workdir):
    views = [AttentionView.of(torch.ones(2, n, 2) / 2, ["a"] * n, ["b", "c"], f"hypothesis {1 + n}") for n in (0, 1)]
    path = workdir / "nothing.html"
    path.write_text(attention_page({"x": views}, title=""), encoding="utf-8")
    screen = look(path)
    assert screen.page.locator("#nothing").is_visible()
    screen.button("heads", "2").click()
    screen.button("views", "hypothesis 2").click()
    assert not screen.page.locator("#nothing").is_visible()
    assert screen.shares("keys") == [50, 50]


@pytest.mark.browser
def test_hypotheses_of_a_beam(look, workdir, fit):
    (workdir / "source.txt").write_text("ab\nba\n<script>\n" * 9, encoding="utf-8")
    (workdir / "target.txt").write_text("x y\ny x\nz\n" * 9, encoding="utf-8")
    sides = [f"--data.{split}_{side}={side}.txt" for split in ("train", "val") for side in ("source", "target")]
    beam = ["--model.search=BeamSearch", "--model.search.beam_size=3", "--model.search.nbest=3"]
    fit(
        "--model=Seq2Seq",
        "--data=PairDataModule",
        *sides,
        "--data.source_tokenizer=CharTokenizer",
        "--data.target_tokenizer=WordTokenizer",
        *beam,
    )
    main(["inspect", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--input=<script>", "--output=page.html"])
    screen = look(workdir / "page.html")
    assert "".join(screen.page.locator("#keys > span").all_inner_texts()).startswith("<script>")
    assert screen.page.locator("#views button").all_inner_texts() == [f"hypothesis {i}" for i in (1, 2, 3)]
    screen.button("views", "hypothesis 3").click()
    if screen.page.locator("#queries > span").count():  # after two steps of training it may write nothing
        assert sum(screen.shares("keys")) == pytest.approx(100, abs=0.5)


def test_what_cannot_be_shown(fails, checkpoint, workdir, fit, small):
    assert fails("inspect", f"--ckpt_path={checkpoint}", "--input=") == "there is no token in the text ''"
    assert "12 tokens are more than --max_tokens 5" in fails(
        "inspect", f"--ckpt_path={checkpoint}", "--input=ROMEO: to be", "--max_tokens=5"
    )
    assert fails("inspect", "--ckpt_path=none", "--max_tokens=0") == "--max_tokens is 0: it must be at least 1"
    too_long = ["--input=ROMEO: to be", "--max_tokens=5"]  # which is found out later
    assert fails("inspect", f"--ckpt_path={checkpoint}", *too_long, f"--output={workdir}") == (
        f"--output {workdir}: is a folder: name a file"
    )
    fit(*small)
    plain = fails("inspect", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--input=a")
    assert plain == "attention: null: a plain recurrent network has no attention weights"
