"""A score of a user's own: how near query and key are."""

import torch

from lightning_rnnattn.scores import AttentionScore


class NegativeDistance(AttentionScore):
    """Minus the distance of query and key, over a temperature."""

    def __init__(self, query_dim: int, key_dim: int, num_heads: int = 1, temperature: float = 1.0) -> None:
        super().__init__(query_dim, key_dim, num_heads)
        self.temperature = temperature

    def project_query(self, query):
        return self.split_heads(query)

    def project_key(self, key):
        return self.split_heads(key)

    def forward(self, query, key):
        return -torch.cdist(query, key) / self.temperature
