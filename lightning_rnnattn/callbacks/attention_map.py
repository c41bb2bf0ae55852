"""Pictures of where the model looks, and a page to look around in."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lightning_rnnattn.callbacks.figures import attention_figure, save_figure
from lightning_rnnattn.callbacks.observer import Observer, no_examples
from lightning_rnnattn.callbacks.page import attention_page
from lightning_rnnattn.callbacks.run import log_html, log_image, observing, replacing, require, writes
from lightning_rnnattn.errors import UserError, require_positive
from lightning_rnnattn.modules.views import AttentionView

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class AttentionMap(Observer):
    """Draw the attention weights of some examples after every validation, into ``attention/`` in the run's folder.

    The examples stay the same over the run, so that one can watch the model learn where to look. Beside the pictures
    there is ``attention.html``, the newest state as a page on which a reader points at a token (see `attention_page`).

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

    Raises:
        UserError: if a number is below 1.
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
        require_positive(self, num_examples=num_examples, max_tokens=max_tokens, max_queries=max_queries)
        self.texts = texts
        self.num_examples = num_examples
        self.max_tokens = max_tokens
        self.max_queries = max_queries

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a module without the protocol before training, not after it.

        Raises:
            UserError: if it is no `ShowsAttention`.
        """
        require(self, pl_module, "attention_views", "text_views")

    def take(self, batch: Any) -> Any:
        """The batch, where no texts were given."""
        return batch if self.texts is None else None

    def observe(self, trainer: Trainer, module: LightningModule) -> None:
        """Draw."""
        try:
            with observing(trainer, module):
                examples = list(self._views(module))
            if not examples:
                raise no_examples(self.texts)
        except UserError as error:
            rank_zero_warn(f"AttentionMap draws nothing: {error}")
            return
        if not writes(trainer):
            return
        step = trainer.global_step
        cut = {f"example {i}": [self._cut(view) for view in views] for i, views in enumerate(examples, start=1)}
        page = attention_page(cut, title="Where the model looked", subtitle=f"{type(module).__name__} · step {step}")
        with replacing(self.folder / "attention" / "attention.html") as partial:
            partial.write_text(page, encoding="utf-8")
        log_html(trainer, "attention/page", page)
        for number, views in enumerate(cut.values(), start=1):
            for view in (view for view in views if view.queries):  # a model may write nothing
                name = f"example{number}" + (f"_{view.name.replace(' ', '')}" if view.name else "")
                self.path = self.folder / "attention" / f"{name}_step{step:07d}.png"
                save_figure(self._figure(view, step), self.path)
                log_image(trainer, f"attention/{name}", self.path, caption=f"step {step}")

    def _views(self, module: Any) -> Iterator[list[AttentionView]]:
        if self.texts is not None:
            yield from map(module.text_views, self.texts)
        elif self.taken is not None:
            yield from module.attention_views(self.taken, self.num_examples)

    def _cut(self, view: AttentionView) -> AttentionView:
        cut = slice(self.max_tokens)
        return AttentionView(view.queries[cut], view.keys[cut], view.weights[:, cut, cut], view.name)

    def _figure(self, view: AttentionView, step: int) -> "Figure":
        last = slice(-self.max_queries if view.queries == view.keys else 0, None)
        return attention_figure(
            view.weights[:, last].numpy(),
            view.queries[last],
            view.keys,
            title="Where the model looked",
            subtitle=f"step {step} · the stronger the mark, the more it looked there",
        )
