"""Learn to read handwritten digits with TensorFlow, on one process or on many.

Many processes are told of each other by TF_CONFIG; MultiWorkerMirroredStrategy averages their
gradients.
"""

import argparse
import json
import os
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

OUTPUT = Path("out")
TRAINING_SHARE = 0.8


def place() -> tuple[int, int]:
    """This process and how many there are, from TF_CONFIG."""
    config = json.loads(os.environ.get("TF_CONFIG", "{}"))
    workers = config.get("cluster", {}).get("worker", [])
    return (config["task"]["index"], len(workers)) if workers else (0, 1)


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The digits that scikit-learn ships, shuffled the same way everywhere: (training, test)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype("float32")[..., None]
    labels = digits.target[order].astype("int64")
    split = int(TRAINING_SHARE * len(labels))
    return (images[:split], labels[:split]), (images[split:], labels[split:])


class DigitReader(tf.Module):
    """An 8 x 8 grey image in, the scores of the ten digits out."""

    def __init__(self) -> None:
        super().__init__()
        draw = tf.random.Generator.from_seed(0)
        self.filters = tf.Variable(draw.normal([3, 3, 1, 16], stddev=0.3), name="filters")
        self.hidden = tf.Variable(draw.normal([4 * 4 * 16, 64], stddev=0.08), name="hidden")
        self.scores = tf.Variable(draw.normal([64, 10], stddev=0.15), name="scores")

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 1], tf.float32)])
    def __call__(self, images: tf.Tensor) -> tf.Tensor:
        seen = tf.nn.relu(tf.nn.conv2d(images, self.filters, strides=1, padding="SAME"))
        seen = tf.nn.max_pool2d(seen, 2, 2, "VALID")
        flat = tf.reshape(seen, [-1, 4 * 4 * 16])
        return tf.nn.relu(flat @ self.hidden) @ self.scores


def train(epochs: int, lr: float, batch_size: int) -> None:
    # The strategy comes first: it connects the processes.
    rank, world_size = place()
    strategy = (
        tf.distribute.MultiWorkerMirroredStrategy()
        if world_size > 1
        else tf.distribute.get_strategy()
    )
    (images, labels), test = load_data()
    images, labels = images[rank::world_size], labels[rank::world_size]
    steps = (int(TRAINING_SHARE * 1797) // world_size) // batch_size  # the same on every process
    print(f"rank {rank} of {world_size}: {len(labels)} training images", flush=True)
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    data = data.shuffle(len(labels), seed=rank).repeat().batch(batch_size)
    batches = iter(data)

    with strategy.scope():
        model = DigitReader()
        velocities = [tf.Variable(tf.zeros_like(v), trainable=False) for v in model.variables]

    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images))
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, gradients)
        for variable, velocity, gradient in zip(
            model.trainable_variables, velocities, gradients, strict=True
        ):
            velocity.assign(0.9 * velocity + gradient)
            variable.assign_sub(lr * velocity)
        return loss

    @tf.function
    def distributed_step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        losses = strategy.run(step, args=(images, labels))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    for epoch in range(1, epochs + 1):
        total = sum(float(distributed_step(*next(batches))) for _ in range(steps))
        if rank == 0:
            print(f"epoch {epoch}/{epochs} loss {total / steps:.4f}", flush=True)

    right = np.argmax(model(test[0]).numpy(), axis=1) == test[1]
    if rank == 0:
        print(f"accuracy {right.mean():.4f}", flush=True)
        OUTPUT.mkdir(exist_ok=True)
        weights = {variable.name.split(":")[0]: variable.numpy() for variable in model.variables}
        np.savez(OUTPUT / "model.npz", **weights)


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.03)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()
    train(arguments.epochs, arguments.lr, arguments.batch_size)


if __name__ == "__main__":
    main()
