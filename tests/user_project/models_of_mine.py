"""A language model of a user's own: another default attention, an argument more, another loss."""

from functools import partial

from scores_of_mine import NegativeDistance

from lightning_rnnattn import Attention, LanguageModel, TokenEmbedding
from lightning_rnnattn.layers import AttentionFactory

NEAR = partial(Attention, score=NegativeDistance, window=5)


class CautiousLanguageModel(LanguageModel):
    """Adds to the loss the square of the features."""

    def __init__(
        self,
        vocab_size: int,
        attention: AttentionFactory | None = NEAR,
        caution: float = 0.1,
        **kwargs,
    ) -> None:
        super().__init__(vocab_size, attention=attention, **kwargs)
        self.caution = caution

    def loss(self, features, *args, **kwargs):
        return super().loss(features, *args, **kwargs) + self.caution * features.square().sum()


class FixedVocabulary(LanguageModel):
    """A model that takes no `vocab_size`."""

    def __init__(self) -> None:
        super().__init__(vocab_size=65, input=partial(TokenEmbedding, embedding_size=4))
