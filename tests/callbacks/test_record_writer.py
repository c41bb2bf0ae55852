import json
import os
import subprocess
import sys
from pathlib import Path

import lightning.pytorch as L
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_rnnattn.callbacks import RecordWriter
from lightning_rnnattn.cli.processes import leave_process_group


class Model(L.LightningModule):
    def __init__(self, text):
        super().__init__()
        self.text = text

    def predict_step(self, batch, batch_idx):
        if "bad" in batch:
            raise ValueError("bad")
        return [{"index": i, "text": f"{self.text}{i}", "names": ["é"]} for i in batch]


def predict(output, batches, devices=1, text="line "):
    trainer = L.Trainer(
        accelerator="cpu", devices=devices, strategy="ddp" if devices > 1 else "auto", logger=False,
        enable_progress_bar=False, callbacks=[RecordWriter(str(output))], use_distributed_sampler=False,
    )  # fmt: skip
    trainer.predict(Model(text), DataLoader(batches, batch_size=None), return_predictions=False)


def test_json_lines_come_in_the_order_of_the_input(tmp_path):
    predict(tmp_path / "out" / "x.jsonl", [[3, 1], [], [0, 10, 2]])
    rows = [json.loads(line) for line in (tmp_path / "out" / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["index"] for row in rows] == [0, 1, 2, 3, 10]
    assert rows[0] == {"index": 0, "text": "line 0", "names": ["é"]}
    assert os.listdir(tmp_path / "out") == ["x.jsonl"]


def test_every_line_end_is_kept_in_json_and_on_a_page(tmp_path):
    ends = "\n \r \x85 \u2028 end"
    for name in ("x.jsonl", "x.html", "x.txt"):
        predict(tmp_path / name, [[1], [0]], text=ends)
    rows = [json.loads(line) for line in (tmp_path / "x.jsonl").read_bytes().split(b"\n")[:-1]]
    assert [row["text"] for row in rows] == [ends + "0", ends + "1"]
    assert (tmp_path / "x.txt").read_bytes().count(b"\n") == 2
    page = (tmp_path / "x.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert page.index("&#10; &#13; &#133; &#8232; end0") < page.index("end1") < page.index("</body>")


def test_another_suffix_has_the_text_alone(tmp_path):
    predict(tmp_path / "x.txt", [[1], [0]])
    assert (tmp_path / "x.txt").read_text() == "line 0\nline 1\n"


def test_an_error_leaves_no_file_behind(tmp_path):
    with pytest.raises(ValueError, match="bad"):
        predict(tmp_path / "x.txt", [[1], ["bad"]])
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_two_processes_write_each_prediction_once(tmp_path):
    done = subprocess.run([sys.executable, __file__, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.txt").read_text() == "".join(f"line {i}\n" for i in range(6))
    assert os.listdir(tmp_path) == ["x.txt"]


if __name__ == "__main__":
    torch.set_num_threads(1)
    share = [[[5, 0], [2]], [[1, 4], [3]]][int(os.environ.get("LOCAL_RANK", 0))]
    predict(Path(sys.argv[1]) / "x.txt", share, devices=2)
    leave_process_group()
