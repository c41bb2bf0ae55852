"""A LightningModule of a user's own, which offers the protocols of the callbacks and nothing else of this package."""

from typing import NamedTuple

import lightning.pytorch as L
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_rnnattn import AttentionView

TEXT = "to be, or not to be, that is the question:\nwhether 'tis nobler in the mind to suffer\n" * 6


class Batch(NamedTuple):
    tokens: Tensor
    targets: Tensor
    mask: Tensor


class Characters:
    """The smallest tokenizer."""

    vocabulary = sorted(set(TEXT))

    def encode(self, text):
        return [self.vocabulary.index(character) for character in text]

    def decode(self, ids):
        return "".join(self.tokens(ids))

    def tokens(self, ids):
        return [self.vocabulary[i] for i in ids]


class Batches:
    """Eight batches in a fixed order, which know where they are: an epoch can be resumed in its middle."""

    def __init__(self, num_batches=8, seq_len=12):
        ids = torch.tensor(Characters().encode(TEXT))
        rows = ids[: num_batches * 2 * seq_len].view(num_batches, 2, seq_len)
        self.batches = [Batch(row[:, :-1], row[:, 1:], torch.ones(2, seq_len - 1, dtype=torch.bool)) for row in rows]
        self.position = 0

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        start, self.position = self.position % len(self), self.position % len(self)
        for batch in self.batches[start:]:
            self.position += 1
            yield batch

    def state_dict(self):
        return {"position": self.position}

    def load_state_dict(self, state):
        self.position = state["position"]


class TinyModel(L.LightningModule):
    """A recurrent network with a head of causal attention over its outputs, and dropout, which draws random numbers."""

    def __init__(self, hidden=16):
        super().__init__()
        self.tokenizer = Characters()
        self.embedding = nn.Embedding(len(Characters.vocabulary), hidden)
        self.dropout = nn.Dropout(0.2)
        self.rnn = nn.GRU(hidden, hidden, batch_first=True)
        self.output = nn.Linear(2 * hidden, len(Characters.vocabulary))

    def _attend(self, tokens):
        hidden, _ = self.rnn(self.dropout(self.embedding(tokens)))
        T = tokens.shape[1]
        scores = hidden @ hidden.mT
        return hidden, scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -torch.inf).softmax(-1)

    def forward(self, tokens):
        hidden, weights = self._attend(tokens)
        return self.output(torch.cat([hidden, weights @ hidden], -1))

    # What `AttentionMap` asks for.

    def attention_views(self, batch, rows):
        return [self._views(tokens) for tokens in batch.tokens[:rows]]

    def text_views(self, text):
        return self._views(torch.tensor(self.tokenizer.encode(text)))

    def _views(self, tokens):
        names = self.tokenizer.tokens(tokens)
        return [AttentionView.of(self._attend(tokens[None])[1], names, names)]

    # What `decoding.generate` asks for: the whole text is read anew at each step.

    def prefill(self, tokens, lengths):
        return self(tokens)[torch.arange(len(tokens)), lengths - 1], tokens

    def decode_step(self, tokens, cache):
        cache = torch.cat([cache, tokens[:, None]], 1)
        return self(cache)[:, -1], cache

    def _loss(self, batch):
        return F.cross_entropy(self(batch.tokens).flatten(0, 1), batch.targets.flatten())

    def training_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("train_loss", loss.detach(), batch_size=1)
        return loss

    def validation_step(self, batch, batch_idx):
        loss = self._loss(batch)
        self.log("val_loss", loss, batch_size=1)
        self.log("val_perplexity", loss.exp(), batch_size=1)

    def predict_step(self, batch, batch_idx):
        log_probs = self(batch.tokens).log_softmax(-1).gather(-1, batch.targets[..., None])[..., 0]
        return [
            {"document": f"{batch_idx}.{row}", "tokens": targets.tolist(), "log_probs": values.tolist()}
            for row, (targets, values) in enumerate(zip(batch.targets, log_probs, strict=True))
        ]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.01)
