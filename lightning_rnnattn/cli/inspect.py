"""`lightning_rnnattn inspect`: a page that shows where the model in a checkpoint looks."""

from pathlib import Path

from lightning_rnnattn.cli.loading import add_model_options, load_model, reads_lowercase, text_lines
from lightning_rnnattn.cli.outputs import check_output, check_writable
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError, require_at_least_one


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser("inspect", "Write a page that shows where the model looks, token by token.")
    add_model_options(parser, "a model with attention")
    parser.add_argument(
        "--input", action="append", help="a text to read; repeatable; else the lines of stdin that are not empty"
    )
    parser.add_argument("--output", default="attention.html", help="the file to write (default: attention.html)")
    parser.add_argument("--max_tokens", type=int, default=512, help="refuse texts with more (default: 512)")
    return parser


def run(command: str, args: list[str]) -> None:
    """Writes the page.

    Raises:
        UserError: for options, texts or a checkpoint that cannot be used.
    """
    options = make_parser().parse_args(args)
    require_at_least_one("--", max_tokens=options.max_tokens)
    check_output("output", options.output, vars(options).items())
    import torch

    from lightning_rnnattn.callbacks.page import attention_page
    from lightning_rnnattn.callbacks.run import replacing
    from lightning_rnnattn.modules import ShowsAttention

    model = load_model(options)
    kind = type(model).__name__
    if not isinstance(model, ShowsAttention):
        raise UserError(f"--ckpt_path {options.ckpt_path}: {kind} has no text_views, so that there is nothing to show")
    texts = options.input or text_lines("nothing to read: give --input, or texts on standard input, one a line")
    if hasattr(model, "decode") and reads_lowercase(options.ckpt_path):  # as `translate`; a tagger does so by itself
        texts = [text.lower() for text in texts]
    check_writable("output", options.output)
    examples = {}
    with torch.no_grad():
        for text in dict.fromkeys(texts):
            views = model.text_views(text)
            longest = max(len(tokens) for view in views for tokens in (view.queries, view.keys))
            if longest > options.max_tokens:
                raise UserError(
                    f"--input {text[:30]!r}…: {longest} tokens are more than --max_tokens {options.max_tokens}"
                )
            examples[text] = views
    subtitle = f"{kind} · {options.ckpt_path}"
    page = attention_page(examples, title="Where the model looked", subtitle=subtitle)
    with replacing(Path(options.output).resolve()) as file:
        file.write_text(page, encoding="utf-8")
    print(f"Open it in a browser: {options.output}")
