"""What a training prints becomes metrics; what else is printed does not."""

import itertools
from typing import Any

import pytest

from tesra.node.metrics.log_lines import BAR_EVERY_S, LineReader


def read(*lines: str, every_s: float = 10.0) -> list[tuple[int | None, dict[str, Any]]]:
    """Steps and values of the points of one rank's lines."""
    reader = LineReader(0)
    points = [reader.read(line, n * every_s) for n, line in enumerate(lines)]
    return [(point.step, dict(point.values)) for point in points if point]


BAR = " 45%|████▌     | 45/100 [00:12<00:14,  3.90it/s, loss=0.12]"


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("epoch 3 loss 0.12 acc 91%", {"epoch": 3, "loss": 0.12, "acc": 0.91}),
        ("Epoch 3/10", {"epoch": 3, "epochs": 10}),
        ("Epoch [3/10], Loss: 0.5", {"epoch": 3, "epochs": 10, "loss": 0.5}),
        ("step 120/1000", {"step": 120, "steps": 1000}),
        ("loss: 0.12", {"loss": 0.12}),
        ("loss=0.12, lr=1e-3", {"loss": 0.12, "lr": 0.001}),
        ("val_loss: 0.3", {"val_loss": 0.3}),
        ("Validation loss: 0.3", {"val_loss": 0.3}),
        ("loss nan", {"loss": "nan"}),
        ("loss: -inf", {"loss": "-inf"}),
        ("{'loss': 0.5, 'epoch': 1.0}", {"loss": 0.5, "epoch": 1}),
        (
            "{'loss': '0.5', 'grad_norm': '1.25', 'learning_rate': '5e-05', 'epoch': '0.5'}",
            {"loss": 0.5, "grad_norm": 1.25, "learning_rate": 5e-05, "epoch": 0.5},
        ),
        ('{"step": 7, "loss": 0.5, "tokens": 12}', {"step": 7, "loss": 0.5, "tokens": 12}),
        (f"Epoch 2: {BAR}", {"epoch": 2, "step": 45, "steps": 100, "loss": 0.12}),
        (BAR, {"step": 45, "steps": 100, "loss": 0.12}),
        ("\x1b[32mepoch 1\x1b[0m \x1b[1mloss\x1b[0m 0.5", {"epoch": 1, "loss": 0.5}),
        (
            "Train Epoch: 1 [640/60000 (1%)]\tLoss: 2.300039",
            {"epoch": 1, "step": 640, "steps": 60000, "train_loss": 2.300039},
        ),
        (
            "Test set: Average loss: 0.0561, Accuracy: 9814/10000 (98%)",
            {"test_loss": 0.0561, "test_accuracy": 0.9814},
        ),
        (
            "Epoch: [0][  10/5005]\tTime  0.52 (  1.20)\tLoss 6.98 (7.01)\tAcc@1   0.50 (  0.10)",
            {"epoch": 0, "step": 10, "steps": 5005, "loss": 6.98, "acc@1": 0.5},
        ),
        (
            "2026-01-02 12:30:01,123 INFO trainer: epoch 2 step 30 loss 0.25 tokens=512",
            {"epoch": 2, "step": 30, "loss": 0.25, "tokens": 512},
        ),
        ("[rank0] step 4: loss = tensor(0.5)", {"step": 4, "loss": 0.5}),
        (
            "第 4/10 轮 损失 0.33，准确率：95.5%",
            {"epoch": 4, "epochs": 10, "损失": 0.33, "准确率": 0.955},
        ),
        ("验证损失：0.21", {"验证损失": 0.21}),
        ("epoch 7 perplexity 1,234.5 wer=0,12 f1 0.5", {"epoch": 7, "f1": 0.5}),
        ("loss:0.5,acc:0.9", {"loss": 0.5, "acc": 0.9}),
        ("train_loss=0.5 test_acc=0.25", {"train_loss": 0.5, "test_acc": 0.25}),
        ("Epoch 4: val_f1 0.5 f1: 0.25", {"epoch": 4, "val_f1": 0.5, "f1": 0.25}),
        ("epoch 2/30 loss 0.1234", {"epoch": 2, "epochs": 30, "loss": 0.1234}),
        ("accuracy 0.9667", {"accuracy": 0.9667}),
        ("iteration 5 | reward 12 | kl: 0.1", {"step": 5, "reward": 12, "kl": 0.1}),
    ],
)
def test_a_line_of_a_training_is_read(line: str, values: dict[str, Any]) -> None:
    [(_step, found)] = read(line)
    assert found == values


@pytest.mark.parametrize(
    "line",
    [
        "12:30:01",
        "2026-01-02 12:30:01 started",
        "time: 12:30:01",
        "torch 2.13.0",
        "lr: 1.2.3",
        "using /data/loss=0.3/file",
        "saved out/epoch=3-step=100-val_loss=0.25.ckpt",
        "saved model_epoch_3.pt",
        "python train.py --lr 0.1 --epochs 10",
        "Namespace(epochs=10, lr=0.001, batch_size=32)",
        "Downloading (12.5 MB): 100%",
        "loss: 12MB",
        "loss: 12 MB",
        "Map: 100%|██████████| 1000/1000 [00:01<00:00, 900.5 examples/s]",
        "model.safetensors: 45%|████▌     | 45.0M/100M [00:12<00:14, 3.9MB/s]",
        "Loading checkpoint shards: 100%|██████████| 3/3 [00:01<00:00,  2.0it/s]",
        "accuracy                           0.97       360",
        "   macro avg       0.97      0.97      0.97       360",
        "│ dense (Dense)      │ (None, 64)    │      4,160 │",
        "| loss | 0.3 |",
        "Total params: 55,050 (215.04 KB)",
        "listening on port: 8080, pid=12",
        "no loss of 3 packets",
        "error: 2 files are missing",
        "batch_size=32 workers=4",
        "sizes: 1 2 3",
        "rank 0 of 2: 1437 training images",
        "http://host/?loss=0.5",
        "313/313 ━━━━━━━━━━━━━━━━━━━━ 1s 1ms/step",
        "loss",
        "x" * 5000 + " loss: 0.5",
    ],
)
def test_no_metric_is_invented(line: str) -> None:
    assert read(line) == []


def test_a_traceback_is_no_metric() -> None:
    trace = [
        "Traceback (most recent call last):",
        '  File "train.py", line 12, in <module>',
        "    loss = 0.5",
        "ValueError: loss: 0.7",
    ]
    assert read(*trace, "loss: 0.25") == [(None, {"loss": 0.25})]


def test_keras_bars_count_over_all_epochs_and_an_evaluation_is_left_out() -> None:
    full = "250/250 ━━━━━━━━━━━━━━━━━━━━ 2s 3ms/step - accuracy: 0.93 - loss: 0.2"
    found = read(
        "Epoch 1/2",
        "\x1b[1m100/250\x1b[0m \x1b[37m━━━━━━━━━━\x1b[0m \x1b[1m1s\x1b[0m 3ms/step - loss: 0.9",
        full,
        "Epoch 2/2",
        "250/250 - 2s - 3ms/step - accuracy: 0.95 - loss: 0.1",
        full,
    )
    assert found[1] == (100, {"loss": 0.9, "step": 100, "steps": 500})
    assert found[2] == (250, {"accuracy": 0.93, "loss": 0.2, "step": 250, "steps": 500})
    assert found[4] == (500, {"accuracy": 0.95, "loss": 0.1, "step": 500, "steps": 500})
    assert len(found) == 5


def test_a_bar_is_told_now_and_then_and_when_it_is_full() -> None:
    bars = [f"{n}%|███| {n}/100 [00:12<00:14, 3.9it/s, loss=0.{n:03}]" for n in range(1, 101)]
    steps = [step for step, _values in read(*bars, every_s=BAR_EVERY_S / 10)]
    assert steps == [*range(1, 100, 10), 100]


def test_steps_that_begin_anew_in_each_epoch_go_on() -> None:
    lines = [f"epoch {e} step {s} loss 0.5" for e, s in itertools.product((0, 1), (0, 5, 9))]
    assert [step for step, _values in read(*lines)] == [0, 5, 9, 10, 15, 19]


def test_an_epoch_is_the_step_where_nothing_counts_steps() -> None:
    lines = ["epoch 1 loss 0.5", "epoch 2 loss 0.4", "val_loss: 0.2"]
    assert [step for step, _values in read(*lines)] == [1, 2, None]


def test_a_name_that_comes_twice_in_an_epoch_has_no_steps_from_then_on() -> None:
    lines = ["epoch 1 loss 0.5", "epoch 1 loss 0.4", "epoch 2 loss 0.3", "epoch 2 acc 0.3"]
    assert [step for step, _values in read(*lines)] == [1, None, None, 2]


def test_a_line_without_a_step_has_the_last_one() -> None:
    assert read("step 10 loss 0.5", "val_loss: 0.2")[1] == (10, {"val_loss": 0.2})


def test_the_bare_bar_of_a_trainer_tells_how_far_it_is() -> None:
    bare = " 10%|█         | 100/1000 [00:10<01:30, 10.0it/s]"
    assert read(bare) == []
    assert read("{'loss': 0.5, 'epoch': 0.1}", bare)[1] == (100, {"step": 100, "steps": 1000})


@pytest.mark.parametrize("piece", ["1", " ", "loss ", "a_", "[", "1/", "%|", "epoch", "\x1b[", "-"])
def test_no_line_takes_long(piece: str) -> None:
    line = piece * (3900 // len(piece))
    reader = LineReader(0)
    for n in range(20):
        reader.read(line, float(n))
