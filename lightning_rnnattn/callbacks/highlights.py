"""Texts with a highlighter over what mattered, as a picture."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.figures import save_figure
from lightning_rnnattn.callbacks.highlights_figure import Highlighted, highlights_figure
from lightning_rnnattn.callbacks.observer import Observer, no_examples
from lightning_rnnattn.callbacks.run import log_image, observing, require, writes
from lightning_rnnattn.errors import UserError, require_positive


class Highlights(Observer):
    """Draw where a classifier's pooling looks in some texts, after every validation, into ``highlights/``.

    Each text stands on its line, the stronger the mark the more weight (the mean over queries), with the label that was
    found. The texts stay the same over the run, so that one can watch the model learn where to look.

    Protocol: the module gives probabilities (1, L) for token ids (1, T), and has ``attention_weights(tokens)``, weights
    (1, H, R, T) of the tokens, a ``tokenizer`` with ``encode(text)`` and ``pieces(text)``, and ``label_names``. Without
    ``texts``, a batch of the validation data has ``texts``. Where ``attention_weights`` raises `UserError`, since the
    pooling has no weights, nothing is drawn.

    Args:
        texts: the texts; None takes the first of the first validation batch.
        num_examples: how many are taken, where ``texts`` is None.
        max_tokens: what is longer is cut.
        every_n_validations: draw after every so many validations.

    Raises:
        UserError: if a number is below 1; when the fit starts, if the module has not all of these.
    """

    def __init__(
        self,
        texts: Sequence[str] | None = None,
        num_examples: int = 12,
        max_tokens: int = 100,
        every_n_validations: int = 1,
    ) -> None:
        super().__init__(every_n_validations)
        require_positive(self, num_examples=num_examples, max_tokens=max_tokens)
        self.texts = texts
        self.num_examples = num_examples
        self.max_tokens = max_tokens

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module without the protocol before training, not after it."""
        require(self, pl_module, "attention_weights", "tokenizer", "label_names")

    def take(self, batch: Any) -> Sequence[str] | None:
        """The first texts, where none were given."""
        return (getattr(batch, "texts", None) or ())[: self.num_examples] if self.texts is None else None

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw."""
        texts = self.taken if self.texts is None else self.texts
        try:
            with observing(trainer, module):
                found = [self._highlight(module, text) for text in texts or ()]
            if not found:
                raise no_examples(texts)
        except UserError as error:
            rank_zero_warn(f"Highlights draws nothing: {error}")
            return
        if not writes(trainer):
            return
        self.path = self.folder / "highlights" / f"step{trainer.global_step:07d}.png"
        subtitle = f"step {trainer.global_step} · the stronger the mark, the more weight in the pooling"
        save_figure(highlights_figure(found, title="Where the model looked", subtitle=subtitle), self.path)
        log_image(trainer, "highlights", self.path, caption=f"step {trainer.global_step}")

    def _highlight(self, module: Any, text: str) -> Highlighted:
        pieces = module.tokenizer.pieces(text)[: self.max_tokens]
        tokens = torch.tensor([module.tokenizer.encode(text)[: self.max_tokens] or [0]], device=module.device)
        lengths = torch.tensor([len(pieces)])
        weights = module.attention_weights(tokens, lengths)[0].mean((0, 1))[: len(pieces)]
        share, label = module(tokens, lengths)[0].max(0)
        return Highlighted(pieces, weights.tolist(), f"{module.label_names[int(label)]}  {float(share):.0%}")
