"""Pictures of where the model looks."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lightning_rnnattn.callbacks.figures import attention_figure, save_figure
from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.callbacks.run import log_image, observing, validates, writes
from lightning_rnnattn.errors import UserError

_LEGEND = "the stronger the mark, the more it looked there"


class AttentionMap(Observer):
    """Draw the attention weights of some examples after every validation, into ``attention/`` in the run's folder.

    The examples stay the same over the run, so that one can watch the model learn where to look.

    Protocol: the module has ``attention_weights(tokens)``, from token ids (1, T) to weights (1, H, T, S), and a
    ``tokenizer`` with ``tokens(ids) -> list[str]``, and ``encode(text)`` if ``texts`` are given. Without ``texts``, a
    batch of the validation data has ``tokens`` (B, T). Where ``attention_weights`` raises `UserError`, since the model
    has no attention, nothing is drawn.

    Args:
        texts: the examples; None takes the first rows of the first validation batch.
        num_examples: how many rows are taken, where ``texts`` is None.
        max_tokens: what is longer is cut: more tokens cannot be read in a picture.
        max_queries: so many of an example's last tokens are drawn as rows; those before are only looked at.
        every_n_validations: draw after every so many validations.
    """

    def __init__(
        self,
        texts: Sequence[str] | None = None,
        num_examples: int = 1,
        max_tokens: int = 64,
        max_queries: int = 16,
        every_n_validations: int = 1,
    ) -> None:
        super().__init__(every_n_validations)
        self.texts = texts
        self.num_examples = num_examples
        self.max_tokens = max_tokens
        self.max_queries = max_queries
        self._examples: list[Tensor] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Encode the examples."""
        tokenizer: Any = pl_module.tokenizer
        self._examples = [torch.tensor(tokenizer.encode(text)[: self.max_tokens]) for text in self.texts or ()]

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Take the examples from the first batch, where none were given."""
        if validates(trainer) and not self._examples:
            self._examples = list(batch.tokens[: self.num_examples, : self.max_tokens].cpu())

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw."""
        model: Any = module
        for number, tokens in enumerate(self._examples, start=1):
            try:
                with observing(trainer, module):
                    weights = model.attention_weights(tokens[None].to(module.device))
            except UserError as error:
                rank_zero_warn(f"AttentionMap draws nothing: {error}")
                return
            if not writes(trainer):
                continue
            words = model.tokenizer.tokens(tokens.tolist())
            self.path = self.folder / "attention" / f"example{number}_step{trainer.global_step:07d}.png"
            figure = attention_figure(
                weights[0, :, -self.max_queries :].float().cpu().numpy(),
                words[-self.max_queries :],
                words,
                title="Where the model looked",
                subtitle=f"step {trainer.global_step} · {_LEGEND}",
            )
            save_figure(figure, self.path)
            log_image(trainer, f"attention/example{number}", self.path, caption=f"step {trainer.global_step}")
