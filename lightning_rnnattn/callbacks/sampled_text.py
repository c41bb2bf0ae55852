"""Text that the model writes while it learns."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.run import observing, require
from lightning_rnnattn.callbacks.sample_table import Row, SampleTable
from lightning_rnnattn.decoding import generate
from lightning_rnnattn.errors import UserError


class SampledText(SampleTable):
    """Let the model write after every validation and at the end; append it to ``samples.md`` in the run's folder.

    The samples of one run start from the same prompts and the same seed, so that what changes is the model. Loggers get
    a table, as `SampleTable` says.

    Protocol: the module has a ``tokenizer`` (``encode(text) -> list[int]``, ``decode(ids) -> str``) and can be given to
    `lightning_rnnattn.decoding.generate`.

    Args:
        prompts: what the texts begin with, one text for each.
        max_new_tokens: how many tokens are written.
        temperature: what the logits are divided by; 0 takes the likeliest token each time.
        top_k: draw among the k likeliest tokens; None: among all.
        top_p: draw among the likeliest tokens that hold this share of the probability; None: among all.
        seed: of the draws.
        every_n_validations: write after every so many validations.
        filename: the file's name.

    Raises:
        UserError: when the fit starts, if the module lacks any of that, or a prompt is empty or has what the tokenizer
            cannot encode.
    """

    key = "samples"
    columns = ("prompt", "text")

    def __init__(
        self,
        prompts: Sequence[str],
        max_new_tokens: int = 200,
        temperature: float = 0.8,
        top_k: int | None = None,
        top_p: float | None = 0.95,
        seed: int = 0,
        every_n_validations: int = 1,
        filename: str = "samples.md",
    ) -> None:
        super().__init__(every_n_validations, filename)
        self.prompts = list(prompts)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module that cannot write, or a prompt that cannot be encoded, before training, not after it."""
        require(self, pl_module, "tokenizer", "prefill", "decode_step")
        tokenizer: Any = pl_module.tokenizer
        for prompt in self.prompts:
            if not tokenizer.encode(prompt):
                raise UserError(f"SampledText: the prompt {prompt!r} is empty: give at least one token to begin with")

    def write(self, trainer: Trainer, module: LightningModule) -> Sequence[Row]:
        """See `SampleTable.write`."""
        return list(zip(self.prompts, self._texts(trainer, module), strict=True))

    def markdown(self, rows: Sequence[Row]) -> str:
        """A block for each text."""
        return "\n".join(_block(text) for _, text in rows)

    def _texts(self, trainer: Trainer, module: LightningModule) -> list[str]:
        tokenizer: Any = module.tokenizer
        prompts = [torch.tensor(tokenizer.encode(prompt), device=module.device) for prompt in self.prompts]
        with observing(trainer, module):
            written = generate(
                module,  # type: ignore[arg-type]
                prompts,
                max_new_tokens=self.max_new_tokens,
                temperature=self.temperature,
                top_k=self.top_k,
                top_p=self.top_p,
                seed=self.seed,
            )
        return [tokenizer.decode([*prompt.tolist(), *ids]) for prompt, ids in zip(prompts, written, strict=True)]


def _block(text: str) -> str:
    """Text as a code block of Markdown, whose fence is longer than any that the text contains."""
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}\n"
