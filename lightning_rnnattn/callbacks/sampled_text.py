"""Text that the model writes while it learns."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer

from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.callbacks.run import log_table, observing, writes
from lightning_rnnattn.decoding import generate
from lightning_rnnattn.errors import UserError

_TABLE_ROWS = 1000  # the newest, so that neither checkpoints nor uploads grow for ever; the file keeps all


class SampledText(Observer):
    """Let the model write after every validation and at the end; append it to ``samples.md`` in the run's folder.

    The samples of one run start from the same prompts and the same seed, so that what changes is the model. W&B gets a
    table that grows (and, since its rows travel in the checkpoint, goes on when the run is resumed); TensorBoard, text.

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
        UserError: when the fit starts, if a prompt is empty or has what the tokenizer cannot encode.
    """

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
        super().__init__(every_n_validations)
        self.prompts = list(prompts)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_k = top_k
        self.top_p = top_p
        self.seed = seed
        self.filename = filename
        self._rows: list[list[Any]] = []

    @property
    def state_key(self) -> str:
        """By its file, so that one trainer may have several."""
        return self._generate_state_key(filename=self.filename)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a prompt that cannot be encoded before training, not after it."""
        tokenizer: Any = pl_module.tokenizer
        for prompt in self.prompts:
            if not tokenizer.encode(prompt):
                raise UserError(f"SampledText: the prompt {prompt!r} is empty: give at least one token to begin with")

    def state_dict(self) -> dict[str, Any]:
        """Adds the table so far."""
        return {**super().state_dict(), "rows": [list(row) for row in self._rows]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the table."""
        super().load_state_dict(state_dict)
        self._rows = [list(row) for row in state_dict["rows"]]

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Write samples."""
        texts = self._texts(trainer, module)
        step = trainer.global_step
        self._rows = [*self._rows, *([step, *row] for row in zip(self.prompts, texts, strict=True))][-_TABLE_ROWS:]
        if writes(trainer):
            markdown = "\n".join(_block(text) for text in texts)
            self.path = self.folder / self.filename
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(f"## Step {step}{_score(trainer)}\n\n{markdown}\n")
            log_table(trainer, "samples", ["step", "prompt", "text"], self._rows, text=markdown)

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


def _score(trainer: Trainer) -> str:
    loss = trainer.callback_metrics.get("val_loss")
    return "" if loss is None else f" · val_loss {float(loss):.3f}"
