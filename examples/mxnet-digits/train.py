"""Learn to read handwritten digits with MXNet's Gluon, on one process or on many (dist_sync).

Many processes are told of each other, and of the servers that add up their gradients, by DMLC_*.
"""

import argparse
import os
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon import nn
from sklearn.datasets import load_digits

OUTPUT = Path("out")
TRAINING_SHARE = 0.8


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The digits that scikit-learn ships, shuffled the same way everywhere: (training, test)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype("float32")[:, None]
    labels = digits.target[order].astype("float32")
    split = int(TRAINING_SHARE * len(labels))
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def digit_reader() -> nn.HybridSequential:
    """An 8 x 8 grey image in, the scores of the ten digits out."""
    net = nn.HybridSequential()
    net.add(
        nn.Conv2D(16, kernel_size=3, padding=1, activation="relu"),
        nn.MaxPool2D(),
        nn.Conv2D(32, kernel_size=3, padding=1, activation="relu"),
        nn.Flatten(),
        nn.Dense(64, activation="relu"),
        nn.Dense(10),
    )
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()

    many = int(os.environ.get("DMLC_NUM_WORKER", "1")) > 1
    store = mx.kv.create("dist_sync" if many else "local")
    rank, world_size = store.rank, store.num_workers
    mx.random.seed(0)

    (images, labels), test = load_data()
    share = len(labels) // world_size  # of equal size: all take the same number of steps
    images, labels = images[rank::world_size][:share], labels[rank::world_size][:share]
    print(f"rank {rank} of {world_size}: {len(labels)} training images", flush=True)
    batches = gluon.data.DataLoader(
        gluon.data.ArrayDataset(images, labels),
        batch_size=arguments.batch_size,
        shuffle=True,
        last_batch="discard",
    )

    net = digit_reader()
    net.initialize(mx.init.Xavier())
    net.hybridize()
    trainer = gluon.Trainer(
        net.collect_params(), "adam", {"learning_rate": arguments.lr}, kvstore=store
    )
    criterion = gluon.loss.SoftmaxCrossEntropyLoss()
    for epoch in range(1, arguments.epochs + 1):
        total, steps = 0.0, 0
        for data, label in batches:
            with autograd.record():
                loss = criterion(net(data), label)
            loss.backward()
            trainer.step(arguments.batch_size * world_size)
            total += loss.mean().asscalar()
            steps += 1
        if rank == 0:
            print(f"epoch {epoch}/{arguments.epochs} loss {total / steps:.4f}", flush=True)

    if rank == 0:
        right = net(mx.nd.array(test[0])).argmax(axis=1).asnumpy() == test[1]
        print(f"accuracy {right.mean():.4f}", flush=True)
        OUTPUT.mkdir(exist_ok=True)
        net.save_parameters(str(OUTPUT / "model.params"))


if __name__ == "__main__":
    main()
