"""Pictures of where the model looks."""

from collections.abc import Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.figures import attention_figure, save_figure
from lightning_rnnattn.callbacks.observer import Observer
from lightning_rnnattn.callbacks.run import log_image, observing, validates, writes
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.modules.views import AttentionView


class AttentionMap(Observer):
    """Draw the attention weights of some examples after every validation, into ``attention/`` in the run's folder.

    The examples stay the same over the run, so that one can watch the model learn where to look.

    Protocol: the module is a `ShowsAttention`, as all of this package are: `attention_views` of a validation batch, and
    `text_views` if ``texts`` are given. Where they raise `UserError`, since the model has no attention, nothing is
    drawn.

    Args:
        texts: the examples; None takes the first rows of the first validation batch.
        num_examples: how many rows are taken, where ``texts`` is None.
        max_tokens: what is longer is cut: more tokens cannot be read in a picture.
        max_queries: where a text looks at itself, so many of its last tokens are drawn as rows; those before are only
            looked at.
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
        self._batch: Any = None

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """Keep the first batch, where no texts were given."""
        if validates(trainer) and self.texts is None and self._batch is None:
            self._batch = batch

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw."""
        try:
            with observing(trainer, module):
                examples = list(self._views(module))
        except UserError as error:
            rank_zero_warn(f"AttentionMap draws nothing: {error}")
            return
        if not writes(trainer):
            return
        for number, views in enumerate(examples, start=1):
            for view in views:
                name = f"example{number}" + (f"_{view.name.replace(' ', '')}" if view.name else "")
                self.path = self.folder / "attention" / f"{name}_step{trainer.global_step:07d}.png"
                save_figure(self._figure(view, trainer.global_step), self.path)
                log_image(trainer, f"attention/{name}", self.path, caption=f"step {trainer.global_step}")

    def _views(self, module: Any) -> Iterator[list[AttentionView]]:
        if self.texts is not None:
            yield from map(module.text_views, self.texts)
        elif self._batch is not None:
            yield from module.attention_views(self._batch, self.num_examples)

    def _figure(self, view: AttentionView, step: int) -> Any:
        cut = slice(self.max_tokens)
        queries, keys, weights = view.queries[cut], view.keys[cut], view.weights[:, cut, cut]
        if view.queries == view.keys:
            queries, weights = queries[-self.max_queries :], weights[:, -self.max_queries :]
        return attention_figure(
            weights.numpy(),
            queries,
            keys,
            title="Where the model looked",
            subtitle=f"step {step} · the stronger the mark, the more it looked there",
        )
