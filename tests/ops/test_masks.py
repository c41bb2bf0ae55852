import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_rnnattn.ops import band_mask, combine_masks, lengths_mask


def test_lengths_mask_marks_real_positions():
    expected = torch.tensor([[1, 0, 0], [0, 0, 0], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(lengths_mask(torch.tensor([1, 0, 3])), expected)
    assert torch.equal(lengths_mask(torch.tensor([1, 0, 3]), 2), expected[:, :2])
    assert lengths_mask(torch.tensor([], dtype=torch.long)).shape == (0, 0)


def test_a_single_query_sees_the_whole_past():
    assert band_mask(1, 6, is_causal=True).all()


@given(
    queries=st.integers(1, 7),
    keys=st.integers(1, 9),
    is_causal=st.booleans(),
    window=st.none() | st.integers(1, 10),
    padded=st.booleans(),
)
def test_combined_masks_follow_the_definition(queries, keys, is_causal, window, padded):
    mask = torch.arange(keys) % 3 != 0 if padded else None
    combined = combine_masks(mask, queries, keys, is_causal=is_causal, window=window)
    combined = torch.ones((), dtype=torch.bool) if combined is None else combined
    combined = combined.expand(queries, keys)
    for t in range(queries):
        for j in range(keys):
            position = keys - queries + t
            visible = not (is_causal and j > position)
            visible &= window is None or abs(position - j) < window
            visible &= mask is None or bool(mask[j])
            assert bool(combined[t, j]) == visible, (t, j)
