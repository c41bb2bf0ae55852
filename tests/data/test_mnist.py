import gzip
import struct

import numpy as np
import pytest
import torch

from lightning_rnnattn import MNIST, Pixels, Rows, UserError
from lightning_rnnattn.cli import main
from lightning_rnnattn.data.idx import read_idx

N, H, W = 12, 3, 4


def idx(array):
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


@pytest.fixture
def arrays():
    random = np.random.RandomState(0)
    return random.randint(0, 256, (N, H, W)), np.arange(N) % 3


@pytest.fixture
def folder(tmp_path, arrays):
    images, labels = arrays
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx(images))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(idx(images[:5]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(idx(labels[:5]))
    return tmp_path


def seen(batches):
    return [index for batch in batches for index in batch.indices]


def test_rows_pixels_and_permuted_pixels(folder, arrays):
    images = torch.tensor(arrays[0][:5]).float() / 255
    for view, expected in ((Rows(), images), (Pixels(), images.flatten(1).unsqueeze(-1))):
        data = MNIST(str(folder), view=view, mean=0.25, std=0.5, batch_size=5)
        (batch,) = data.test_dataloader()
        torch.testing.assert_close(batch.inputs.values, (expected - 0.25) / 0.5)
        assert batch.inputs.lengths.tolist() == [expected.shape[1]] * 5
        assert batch.labels.tolist() == arrays[1][:5].tolist()
        assert (data.input_size, data.num_labels, data.labels) == (expected.shape[2], 3, ("0", "1", "2"))
        assert data.tokenizer is None


def test_a_permutation_is_the_same_for_all_images_and_of_its_seed(folder):
    def pixels(seed):
        (batch,) = MNIST(str(folder), view=Pixels(permutation_seed=seed), batch_size=5).test_dataloader()
        return batch.inputs.values[..., 0]

    plain, permuted = pixels(None), pixels(1)
    assert torch.equal(permuted, pixels(1))
    assert not torch.equal(permuted, pixels(2))
    order = [plain[0].tolist().index(x) for x in permuted[0].tolist()]
    assert sorted(order) == list(range(H * W))
    assert order != sorted(order)
    assert torch.equal(permuted, plain[:, order])


def test_validation_is_drawn_from_training_and_each_image_comes_once_an_epoch_in_another_order(folder):
    data = MNIST(str(folder), val_fraction=0.25, batch_size=2)
    train, val = data.train_dataloader(), data.val_dataloader()
    first, second = seen(train), seen(train)
    assert sorted(first) == sorted(second) == list(range(9))
    assert first != second
    assert seen(val) == [0, 1, 2]
    both = [batch.inputs.values for loader in (train, val) for batch in loader]
    assert len({tuple(x.flatten().tolist()) for batch in both for x in batch}) == N
    assert MNIST(str(folder), val_fraction=0.0).val_dataloader() == []


def test_images_stay_bytes(folder):
    assert MNIST(str(folder)).examples("test")._images.dtype == torch.uint8


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with , where an IDX file of images has 00 00 08 03"),
        (b"\x89PNG" + bytes(100), "begins with 89 50 4e 47, where"),
        (idx(np.zeros(5)), "begins with 00 00 08 01, where"),
        (idx(np.zeros((2, 3, 4)))[:10], "cut short in its header of 16 bytes"),
        (idx(np.zeros((2, 3, 4)))[:-1], "has 23 bytes behind its header, which says 2 × 3 × 4 = 24"),
        (idx(np.zeros((2, 3, 4))) + b"\0", "has 25 bytes behind its header"),
        (idx(np.zeros((0, 3, 4))), "is empty: its header says 0 × 3 × 4"),
        (gzip.compress(idx(np.zeros((2, 3, 4))))[:-9], "gzip file is cut short or damaged"),
    ],
)
def test_files_that_are_not_what_they_should_be(tmp_path, content, message):
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"images: .*{message}"):
        read_idx(path, 3)


def test_images_and_labels_that_do_not_fit(folder, arrays):
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(arrays[1][:4]))
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte has 5 images, and .*t10k-labels.* has 4 labels"):
        MNIST(str(folder)).test_dataloader()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1, 9, 0, 1])))
    with pytest.raises(UserError, match=r"t10k-labels-idx1-ubyte: number 3: the label '9' is not among"):
        MNIST(str(folder)).test_dataloader()


def test_settings_that_cannot_be(folder, tmp_path):
    with pytest.raises(UserError, match=r"there is no data for train: give data.folder"):
        MNIST().train_dataloader()
    with pytest.raises(UserError, match=r"data.folder: there is no train-images-idx3-ubyte, plain or with .gz, in"):
        MNIST(str(tmp_path / "nowhere")).train_dataloader()
    with pytest.raises(UserError, match=r"data.std is 0"):
        MNIST(str(folder), std=0)
    with pytest.raises(UserError, match="permutation_seed is -1"):
        Pixels(permutation_seed=-1)


def test_the_whole_way_from_the_command_line(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    quick = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    flags = (
        "--data.folder=. --data.view=Pixels --data.view.permutation_seed=3 --data.val_fraction=0.25 --data.batch_size=4"
    )
    flags += " --trainer.max_steps=2 --trainer.val_check_interval=1 --model.rnn=MinLSTM --model.rnn.hidden_size=4"
    main(["fit", "--config=mnist/pixels.yaml", *flags.split(), "--model.pooling=AttentionPooling", *quick])
    checkpoint = torch.load("checkpoints/last.ckpt", weights_only=True)
    view = checkpoint["datamodule_hyper_parameters"]["view"]
    assert view["init_args"] == {"permutation_seed": 3}
    assert (folder / "gradients.png").exists()
    main(["test", "--ckpt_path=checkpoints/last.ckpt", *quick])
    assert "test_accuracy" in capsys.readouterr().out
    flags = ["--data.predict_images=t10k-images-idx3-ubyte", "--data.folder=null", "--output=out.jsonl"]
    main(["predict", "--ckpt_path=checkpoints/last.ckpt", *flags, *quick])
    assert len((folder / "out.jsonl").read_text().splitlines()) == 5
