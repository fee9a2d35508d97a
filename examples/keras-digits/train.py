"""Learn to read handwritten digits with Keras 3, on any backend, on one process or on many (jax).

Many processes are told of each other by KERAS_DISTRIBUTION_*.
"""

import argparse
import os
from pathlib import Path

import keras
import numpy as np
from sklearn.datasets import load_digits

OUTPUT = Path("out")
TRAINING_SHARE = 0.8


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The digits that scikit-learn ships, shuffled the same way everywhere: (training, test)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order] / 16).astype("float32")[..., None]
    labels = digits.target[order].astype("int64")
    split = int(TRAINING_SHARE * len(labels))
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def digit_reader() -> keras.Model:
    """An 8 x 8 grey image in, the scores of the ten digits out."""
    return keras.Sequential(
        [
            keras.layers.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="relu"),
            keras.layers.MaxPooling2D(),
            keras.layers.Conv2D(32, 3, padding="same", activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(64, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()

    rank = int(os.environ.get("KERAS_DISTRIBUTION_PROCESS_ID", "0"))
    world_size = int(os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1"))
    if world_size > 1:
        keras.distribution.initialize()
        # Every process gives its own share of the data below, so Keras need not cut it again.
        keras.distribution.set_distribution(
            keras.distribution.DataParallel(auto_shard_dataset=False)
        )
    keras.utils.set_random_seed(0)  # the same first weights everywhere

    (images, labels), test = load_data()
    share = len(labels) // world_size // arguments.batch_size * arguments.batch_size
    images, labels = images[rank::world_size][:share], labels[rank::world_size][:share]
    print(f"rank {rank} of {world_size}: {len(labels)} training images", flush=True)

    model = digit_reader()
    model.compile(
        optimizer=keras.optimizers.Adam(arguments.lr),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.fit(
        images,
        labels,
        batch_size=arguments.batch_size,
        epochs=arguments.epochs,
        verbose=2 if rank == 0 else 0,
    )

    # All processes evaluate and save: a part of the work is shared, and one alone would wait.
    size = len(test[1]) // (8 * world_size) * 8 * world_size
    _, accuracy = model.evaluate(
        test[0][:size][rank::world_size], test[1][:size][rank::world_size], batch_size=8, verbose=0
    )
    folder = OUTPUT if rank == 0 else Path(os.environ.get("TMPDIR", "/tmp")) / f"rank-{rank}"
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "model.keras")
    if rank == 0:
        print(f"accuracy {float(accuracy):.4f}", flush=True)


if __name__ == "__main__":
    main()
