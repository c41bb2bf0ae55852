"""`lightning_rnnattn generate`: continue prompts with the language model in a checkpoint."""

from lightning_rnnattn.cli.loading import add_int8_option, add_model_options, load_model, text_lines
from lightning_rnnattn.cli.plain import PlainParser
from lightning_rnnattn.errors import UserError, require_at_least_one

SEPARATOR = "\n\n---\n\n"  # between texts, where there are several


def make_parser() -> PlainParser:
    """Makes the parser of the options."""
    parser = PlainParser("generate", "Continue prompts, several at once; each comes out as if it were alone.")
    add_model_options(parser, "a language model")
    parser.add_argument(
        "--prompt", action="append", help="a text to continue; repeatable; else the lines of stdin that are not empty"
    )
    parser.add_argument("--max_new_tokens", type=int, default=300, help="tokens to add (default: 300)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="divides the logits; 0: the likeliest (default: 1)"
    )
    parser.add_argument("--top_k", type=int, help="draw among the k likeliest tokens only")
    parser.add_argument("--top_p", type=float, help="draw among the likeliest tokens of this joint probability")
    parser.add_argument("--seed", type=int, default=0, help="of the draws; text i draws with seed + i (default: 0)")
    parser.add_argument("--num_samples", type=int, default=1, help="texts for each prompt (default: 1)")
    parser.add_argument("--batch_size", type=int, default=64, help="texts that are continued at once (default: 64)")
    add_int8_option(parser)
    return parser


def run(command: str, args: list[str]) -> None:
    """Prints every prompt with its continuation.

    Raises:
        UserError: for options, prompts or a checkpoint that cannot be used.
    """
    options = make_parser().parse_args(args)
    require_at_least_one("--", num_samples=options.num_samples, batch_size=options.batch_size)
    import torch

    from lightning_rnnattn.decoding import generate

    model = load_model(options)
    if getattr(model, "tokenizer", None) is None or not hasattr(model, "prefill"):
        raise UserError(f"--ckpt_path {options.ckpt_path}: {type(model).__name__} cannot write text")

    given = options.prompt or text_lines("nothing to continue: give --prompt, or prompts on standard input, one a line")
    prompts = [prompt for prompt in given for _ in range(options.num_samples)]
    for start in range(0, len(prompts), options.batch_size):
        batch = prompts[start : start + options.batch_size]
        encoded = [torch.tensor(model.tokenizer.encode(prompt), device=model.device) for prompt in batch]
        continuations = generate(
            model,
            encoded,
            max_new_tokens=options.max_new_tokens,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            seed=options.seed + start,
        )
        texts = [model.tokenizer.decode([*ids.tolist(), *new]) for ids, new in zip(encoded, continuations, strict=True)]
        print(SEPARATOR.removeprefix("\n") if start else "", end="")
        print(*texts, sep=SEPARATOR, flush=True)
