"""Pretrained word vectors, at the start of a training."""

from lightning.pytorch.utilities import rank_zero_info

from lightning_rnnattn.layers.inputs import InputLayer
from lightning_rnnattn.tokenizers import Tokenizer


def prepare_input(layer: InputLayer, tokenizer: Tokenizer | None) -> None:
    """Lets an input layer prepare itself with the words that it will read, and says what it did.

    Call it in a module's `on_fit_start`: by then a run that is resumed has taken its weights from the checkpoint, and
    the layer knows that there is nothing to prepare::

        def on_fit_start(self):
            super().on_fit_start()
            prepare_input(self.input, self.tokenizer)

    Args:
        layer: the input layer.
        tokenizer: what the layer's ids mean; None where it reads no tokens.
    """
    if tokenizer is not None and (message := layer.prepare(tokenizer.tokens(range(tokenizer.vocab_size)))):
        rank_zero_info(message)
