"""From what a batch holds to what a recurrent network reads.

Letters: B batch, T time, V vocabulary.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from lightning_rnnattn.errors import UserError, require_positive, require_probability
from lightning_rnnattn.layers.dropout import LockedDropout
from lightning_rnnattn.layers.word_vectors import read_word_vectors


class InputLayer(nn.Module, ABC):
    """Makes features of a batch's values.

    Attributes:
        output_size: features of an output.
    """

    output_size: int

    @abstractmethod
    def forward(self, values: Tensor) -> Tensor:
        """Token ids (B, T), or real-valued features (B, T, input_size), to (B, T, output_size)."""

    def zeros(self, rows: int, length: int, device: torch.device) -> Tensor:
        """Values of no meaning, to measure with: token ids, unless a subclass reads something else."""
        return torch.zeros(rows, length, dtype=torch.int64, device=device)

    def prepare(self, words: Sequence[str]) -> str | None:
        """Called when a training begins, with the weights of its checkpoint where there is one.

        Args:
            words: the text of each token id.

        Returns:
            A line to tell the user, or None.
        """
        return None


InputFactory = Callable[[int], InputLayer]
"""Makes an input layer from input_size, the size of the vocabulary or the number of features: a class, or a
``functools.partial`` of one."""


class TokenEmbedding(InputLayer):
    """A vector for each token id, learnt or pretrained.

    Args:
        input_size: V, the size of the vocabulary.
        embedding_size: features of a vector.
        dropout: probability of dropping a feature, in training.
        locked_dropout: the same, with one mask for all elements of a sequence: see `LockedDropout`.
        token_dropout: probability of dropping a token: in training, all its occurrences in a batch become zeros (Gal
            and Ghahramani 2016, in the form of Merity et al. 2018, section 4.3).
        vectors: a text file of pretrained vectors as GloVe and word2vec write them, plain or gzip: see
            `lightning_rnnattn.layers.word_vectors`. It is read when a training begins; a checkpoint holds the
            weights and does not need the file. Tokens that it lacks keep their random vectors.
        freeze: do not train the vectors; only with ``vectors``.

    Raises:
        UserError: if a size or a probability is out of range, or ``freeze`` is set without ``vectors``; or when it is
            called with features.

    Example:
        >>> TokenEmbedding(100, embedding_size=8)(torch.tensor([[3, 1, 0]])).shape
        torch.Size([1, 3, 8])
    """

    pretrained: Tensor

    def __init__(
        self,
        input_size: int,
        embedding_size: int = 128,
        *,
        dropout: float = 0.0,
        locked_dropout: float = 0.0,
        token_dropout: float = 0.0,
        vectors: str | None = None,
        freeze: bool = False,
    ) -> None:
        super().__init__()
        require_positive(self, input_size=input_size, embedding_size=embedding_size)
        require_probability(dropout=dropout, locked_dropout=locked_dropout, token_dropout=token_dropout)
        if freeze and vectors is None:
            raise UserError("freeze: true without vectors: random vectors would stay random; name a file of vectors")
        self.output_size = embedding_size
        self.token_dropout = token_dropout
        self.vectors = vectors
        self.embedding = nn.Embedding(input_size, embedding_size)
        nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        self.embedding.weight.requires_grad_(not freeze)
        self.dropout = nn.Dropout(dropout)
        self.locked_dropout = LockedDropout(locked_dropout)
        # Whether the file's vectors are in the weights; it travels with them.
        self.register_buffer("pretrained", torch.tensor(False))

    def forward(self, values: Tensor) -> Tensor:
        """Token ids (B, T) to (B, T, embedding_size)."""
        if values.is_floating_point():
            raise UserError("TokenEmbedding reads token ids, and the data has features: set model.input to Features")
        x = self.embedding(values)
        if self.training and self.token_dropout:
            keep = torch.empty(self.embedding.num_embeddings, 1, dtype=x.dtype, device=x.device)
            keep.bernoulli_(1 - self.token_dropout).div_(1 - self.token_dropout)
            x = x * keep[values]
        return self.locked_dropout(self.dropout(x))

    def prepare(self, words: Sequence[str]) -> str | None:
        """Puts the file's vectors in place.

        Raises:
            UserError: see `lightning_rnnattn.layers.word_vectors.read_word_vectors`.
        """
        if self.vectors is None or self.pretrained:
            return None
        vectors, found = read_word_vectors(self.vectors, words, self.output_size)
        if not found.any():
            raise UserError(
                f"{self.vectors}: has none of the {len(words)} tokens of the vocabulary: is it word by word?"
            )
        with torch.no_grad():
            rows = found.nonzero().squeeze(-1).to(self.embedding.weight.device)
            self.embedding.weight[rows] = vectors[found].to(self.embedding.weight)
            self.pretrained.fill_(True)
        return f"{self.vectors}: vectors for {int(found.sum())} of {len(words)} tokens"


class Features(InputLayer):
    """Real-valued features as they are, or projected.

    Args:
        input_size: features of an input.
        projection_size: features of the output of a linear layer; None for none.
        dropout: probability of dropping a feature, in training.

    Raises:
        UserError: if a size or a probability is out of range; or when it is called with token ids.
    """

    def __init__(self, input_size: int, projection_size: int | None = None, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.output_size = input_size if projection_size is None else projection_size
        if min(input_size, self.output_size) < 1:
            raise UserError(f"projection_size={projection_size} of input_size={input_size}: both must be at least 1")
        require_probability(dropout=dropout)
        self.input_size = input_size
        self.projection = nn.Identity() if projection_size is None else nn.Linear(input_size, projection_size)
        self.dropout = nn.Dropout(dropout)

    def zeros(self, rows: int, length: int, device: torch.device) -> Tensor:
        """See `InputLayer.zeros`."""
        return torch.zeros(rows, length, self.input_size, device=device)

    def forward(self, values: Tensor) -> Tensor:
        """Features (B, T, input_size) to (B, T, output_size)."""
        if not values.is_floating_point():
            raise UserError("Features reads features, and the data has token ids: set model.input to TokenEmbedding")
        return self.dropout(self.projection(values))
