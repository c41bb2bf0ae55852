"""A start that fails leaves nothing: no folder of a run that never was."""

import struct

import pytest

SEQ2SEQ = """--model=Seq2Seq --model.embedding_size=4 --model.encoder=LSTM --model.encoder.hidden_size=4
    --model.decoder=BahdanauDecoder --model.decoder.rnn=LSTM --model.decoder.rnn.hidden_size=4"""
PAIRS = f"""{SEQ2SEQ} --data=PairDataModule --data.source_tokenizer=CharTokenizer
    --data.train_source=four.txt --data.train_target=four.txt"""
RNN = "--model.rnn=LSTM --model.rnn.hidden_size=4"
FILES = {
    "four.txt": b"a\nb\nc\nd\n",
    "other.txt": b"e\nf\ng\nh\n",
    "three.txt": b"a\nb\nc\n",
    "gap.txt": b"a\n\nc\nd\n",
    "long.txt": b"a\nb\nc\n" + b"d" * 1025 + b"\n",
    "pairs.tsv": b"source\ttarget\na\tb\nc\t\n",
    "latin.txt": b"It is\ncaf\xe9\n",
    "unseen.txt": b"1 a fine film\n7 a dull one\n",
    "unseen.conllu": b"1\tIt\t_\tINTJ\t_\t_\t_\t_\t_\t_\n\n",
    "mnist/train-labels-idx1-ubyte": struct.pack(">4BI", 0, 0, 8, 1, 7) + bytes(7),
}
STARTS = {
    "a line without its counterpart": (
        f"{PAIRS} --data.train_target=three.txt",
        "four.txt:4: the line has no counterpart",
    ),
    "an empty line": (f"{PAIRS} --data.train_target=gap.txt", "gap.txt:2: the pair has an empty side (1 and 0 tokens)"),
    "an empty line to validate on": (
        f"{PAIRS} --data.val_source=gap.txt --data.val_target=four.txt",
        "gap.txt:2: the pair has an empty side (0 and 1 tokens)",
    ),
    "a line that is too long": (
        f"{PAIRS} --data.train_target=long.txt",
        "long.txt:4: the pair has more than 1024 tokens on a side (1 and 1025 tokens), as 1 of the 4 pairs of train"
        " have: raise data.max_length, or set data.skip to true",
    ),
    "an empty cell": (
        f"{SEQ2SEQ} --data=PairTableDataModule --data.source_tokenizer=CharTokenizer --data.train_files=pairs.tsv",
        "pairs.tsv:3: the pair has an empty side",
    ),
    "text in Latin-1": (
        f"--model=LanguageModel {RNN} --data=TextDataModule --data.train_files=text.txt --data.val_files=latin.txt",
        "latin.txt:2: byte 0xe9",
    ),
    "a label that training lacks": (
        f"--model=SequenceClassifier {RNN} --data=ClassifiedDataModule --data.train_files=labels.txt"
        " --data.val_files=unseen.txt",
        "unseen.txt:2: ",
    ),
    "a word's label that training lacks": (
        f"--model=SequenceTagger {RNN} --data=TaggedDataModule --data.train_files=tags.conllu"
        " --data.val_files=unseen.conllu",
        "unseen.conllu:1: ",
    ),
    "images without labels": (
        f"--model=SequenceClassifier {RNN} --model.input=Features --data=MNIST --data.folder=mnist",
        "mnist/train-images-idx3-ubyte has 8 images, and mnist/train-labels-idx1-ubyte has 7 labels",
    ),
    "embeddings shared by two vocabularies of one size": (
        f"{PAIRS} --data.train_target=other.txt --data.target_tokenizer=CharTokenizer --model.share_embeddings=true",
        "model.share_embeddings: source and target have vocabularies of their own",
    ),
    "a rate that the optimizer refuses": (
        f"{PAIRS} --model.optimizer=Adam --model.optimizer.lr=-1",
        "model.optimizer: Invalid learning rate: -1.0",
    ),
}
LOGGERS = {
    "CSV": [],
    "TensorBoard": ["--config=logger/tensorboard"],
    "W&B": ["--config=logger/wandb", "--trainer.logger.offline=true"],
    "none": ["--trainer.logger=false"],
}


@pytest.fixture
def left_behind(workdir, samples, fails):
    """Runs a `fit` that must fail; gives its one line, and what it left in the working directory."""
    for name, content in FILES.items():
        (workdir / name).write_bytes(content)

    def start(*args: str) -> tuple[str, set[str]]:
        before = set(workdir.rglob("*"))
        line = fails("fit", *args, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false")
        return line, {str(path.relative_to(workdir)) for path in set(workdir.rglob("*")) - before}

    return start


@pytest.mark.parametrize("what", STARTS)
def test_a_start_that_fails(left_behind, what):
    flags, message = STARTS[what]
    line, left = left_behind(*flags.split())
    assert line.startswith(message)
    assert not left


def test_validations_less_often_than_there_are_batches(left_behind):
    flags = f"{PAIRS} --data.val_source=four.txt --data.val_target=four.txt --trainer.val_check_interval=50"
    line, left = left_behind(*flags.split())
    message = "trainer.val_check_interval (50) must be less than or equal to the number of the training batches (1). "
    assert line.startswith(message)
    assert left == {"runs"}  # Lightning says so when loggers have begun


@pytest.mark.parametrize("logger", LOGGERS)
def test_no_logger_has_begun(left_behind, logger):
    flags, _ = STARTS["an empty line to validate on"]
    _, left = left_behind(*LOGGERS[logger], *flags.split())
    assert not left


@pytest.mark.parametrize("logger", ["CSV", "TensorBoard"])
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--data.batch_size=1", "the checkpoint is from the middle of an epoch (batch 1) over "),
        ("--model.optimizer=SGD", "model.optimizer: the checkpoint has the state of another optimizer than SGD"),
    ],
)
def test_a_checkpoint_that_does_not_fit(left_behind, fit, logger, flag, message):
    fit(*PAIRS.split(), "--data.batch_size=2", "--trainer.max_steps=1", "--trainer.limit_val_batches=0")
    line, left = left_behind(*LOGGERS[logger], "--ckpt_path=runs/version_0/checkpoints/last.ckpt", flag)
    assert line.startswith(message)
    assert not [name for name in left if name.startswith("runs/")]


def test_a_validation_without_data(left_behind, fails, fit):
    fit(*PAIRS.split())
    line = fails("validate", "--ckpt_path=runs/version_0/checkpoints/last.ckpt", "--trainer.accelerator=cpu")
    assert line.startswith("there is no data for val: give data.val_source and data.val_target")


def test_training_without_validation_is_nothing_to_warn_of(left_behind, fit, recwarn):
    fit(*PAIRS.split())
    assert not [str(warning.message) for warning in recwarn if "is zero" in str(warning.message)]
