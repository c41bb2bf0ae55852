import multiprocessing
import os
import threading
import time

import numpy as np
import pytest

from lightning_rnnattn.data import TextDataModule, streams
from lightning_rnnattn.data.cache import CACHE_VARIABLE, cached, default_cache_dir
from lightning_rnnattn.data.corpus import FileCorpus
from lightning_rnnattn.data.streams import token_array, train_tokenizer
from lightning_rnnattn.errors import UserError
from lightning_rnnattn.tokenizers import CharTokenizer, WordTokenizer

TEXT = "to be or not\nto be\n"


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return FileCorpus([path])


def test_array_has_the_tokens(corpus, cache_dir, monkeypatch):
    monkeypatch.setattr(streams, "_BATCH_CHARS", 4)  # several batches
    tokenizer = train_tokenizer(CharTokenizer(), corpus, cache_dir)
    array = token_array(corpus, tokenizer, cache_dir)
    assert isinstance(array, np.memmap)
    assert array.dtype == np.uint16
    assert tokenizer.decode(array) == TEXT


def test_large_vocabulary(tmp_path, cache_dir):
    path = tmp_path / "text.txt"
    path.write_text(" ".join(f"w{i}" for i in range(70_000)))
    corpus = FileCorpus([path])
    tokenizer = train_tokenizer(WordTokenizer(), corpus, cache_dir)
    array = token_array(corpus, tokenizer, cache_dir)
    assert array.dtype == np.uint32
    assert array.max() == tokenizer.vocab_size - 1
    assert len(array) == 70_001


def test_found_again_by_content(corpus, cache_dir, monkeypatch):
    tokenizer = train_tokenizer(CharTokenizer(), corpus, cache_dir)
    token_array(corpus, tokenizer, cache_dir)
    made = sorted(cache_dir.iterdir())
    monkeypatch.setattr(CharTokenizer, "train", None)
    monkeypatch.setattr(FileCorpus, "lines", None)
    assert train_tokenizer(CharTokenizer(), corpus, cache_dir) == tokenizer
    assert len(token_array(corpus, tokenizer, cache_dir)) == len(TEXT)
    assert sorted(cache_dir.iterdir()) == made


def test_changed_file_is_read_anew(corpus, cache_dir):
    tokenizer = train_tokenizer(CharTokenizer(), corpus, cache_dir)
    before = token_array(corpus, tokenizer, cache_dir)
    corpus.paths[0].write_text(TEXT + "be\n")
    after = token_array(corpus, tokenizer, cache_dir)
    assert tokenizer.decode(before) == TEXT
    assert tokenizer.decode(after) == TEXT + "be\n"


def test_file_that_changes_meanwhile(corpus, cache_dir):
    tokenizer = CharTokenizer().train([TEXT])

    class Slow(FileCorpus):
        def lines(self):
            yield from super().lines()
            self.paths[0].write_text("to\n")

    with pytest.raises(UserError, match="changed while it was being read"):
        token_array(Slow(corpus.paths), tokenizer, cache_dir)
    assert not list(cache_dir.glob("*.npy"))
    assert not list(cache_dir.glob("*.tmp"))


def test_file_that_changes_meanwhile_behind_its_time_and_size(corpus, cache_dir):
    tokenizer = CharTokenizer().train([TEXT])

    class Sly(FileCorpus):
        def lines(self):
            yield from super().lines()
            [path] = self.paths
            status = path.stat()
            path.write_text(TEXT[::-1])
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(UserError, match="changed while it was being read"):
        token_array(Sly(corpus.paths), tokenizer, cache_dir)


def test_file_that_vanishes_meanwhile(corpus, cache_dir):
    tokenizer = CharTokenizer().train([TEXT])

    class Gone(FileCorpus):
        def lines(self):
            for line in super().lines():
                self.paths[0].unlink(missing_ok=True)
                yield line

    with pytest.raises(UserError, match=r"^\S*text.txt: cannot read the file: No such file"):
        token_array(Gone(corpus.paths), tokenizer, cache_dir)


def test_a_file_is_hashed_once(corpus, monkeypatch):
    corpus.fingerprint()
    monkeypatch.setattr("hashlib.file_digest", None)
    assert FileCorpus(corpus.paths).fingerprint() == corpus.fingerprint()


def test_unseen_character_has_its_line(corpus, cache_dir):
    tokenizer = CharTokenizer().train([TEXT])
    corpus.paths[0].write_text(TEXT + "wé\n")
    with pytest.raises(UserError, match=r"text.txt:3: character 'w' \(U\+0077\) is not in the vocabulary"):
        token_array(corpus, tokenizer, cache_dir)


def test_damaged_cache(corpus, cache_dir):
    tokenizer = CharTokenizer().train([TEXT])
    token_array(corpus, tokenizer, cache_dir)
    [path] = cache_dir.glob("*.npy")
    path.write_bytes(path.read_bytes()[:130])
    with pytest.raises(UserError, match=r"\.npy: the cached file is damaged .* delete it"):
        token_array(corpus, tokenizer, cache_dir)


def test_one_builds_and_the_others_wait(tmp_path):
    built = []

    def build(path):
        built.append(path)
        time.sleep(0.2)
        path.write_text("whole")

    threads = [threading.Thread(target=cached, args=(tmp_path / "file", build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert (tmp_path / "file").read_text() == "whole"


def test_failure_leaves_nothing(tmp_path):
    def build(path):
        path.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(
        UserError, match=r"cannot write to the cache folder .*: No space left on device; name another by"
    ):
        cached(tmp_path / "file", build)
    assert not (tmp_path / "file").exists()
    assert not list(tmp_path.glob("*.tmp"))


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"data.cache_dir or .{CACHE_VARIABLE}"):
        cached(tmp_path / "file" / "folder" / "x", lambda path: None)


def test_default_folder(monkeypatch, tmp_path, cache_dir):
    assert default_cache_dir() == cache_dir
    monkeypatch.delenv(CACHE_VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / "lightning_rnnattn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "lightning_rnnattn"


def prepare(path, cache_dir, barrier, results):
    write = streams._write
    written = []
    streams._write = lambda *args: (written.append(True), time.sleep(0.2), write(*args))
    barrier.wait()
    data = TextDataModule(str(path), val_fraction=0.1, cache_dir=str(cache_dir))
    tokens = data.tokens("train").tobytes()
    results.put((len(written), tokens, data.tokenizer.to_str()))


def test_processes_that_start_at_once(tmp_path, cache_dir):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {i} of many\n" for i in range(20_000)))
    processes = multiprocessing.get_context("fork")
    barrier, results = processes.Barrier(3), processes.Queue()
    started = [processes.Process(target=prepare, args=(path, cache_dir, barrier, results)) for _ in range(3)]
    for process in started:
        process.start()
    written, tokens, tokenizers = zip(*(results.get(timeout=60) for _ in started), strict=True)
    for process in started:
        process.join()
    assert sum(written) == 1
    assert len(set(tokens)) == len(set(tokenizers)) == 1
