"""Learn to read handwritten digits with JAX, on one process or on many.

Many processes are told of each other by JAX_COORDINATOR_ADDRESS and its companions.
"""

import argparse
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from sklearn.datasets import load_digits

OUTPUT = Path("out")
TRAINING_SHARE = 0.8
Model = dict[str, jax.Array]


def load_data() -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """The digits that scikit-learn ships, shuffled the same way everywhere: (training, test)."""
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images, labels = (digits.data[order] / 16).astype("float32"), digits.target[order]
    split = int(TRAINING_SHARE * len(labels))
    return (images[:split], labels[:split]), (images[split:], labels[split:])


def first_model() -> Model:
    """64 grey values in, the scores of the ten digits out."""
    draw = np.random.default_rng(0)
    return {
        "hidden": draw.normal(scale=0.15, size=(64, 128)).astype("float32"),
        "bias": np.zeros(128, "float32"),
        "scores": draw.normal(scale=0.1, size=(128, 10)).astype("float32"),
    }


def read(model: Model, images: jax.Array) -> jax.Array:
    return jax.nn.relu(images @ model["hidden"] + model["bias"]) @ model["scores"]


def loss_of(model: Model, images: jax.Array, labels: jax.Array) -> jax.Array:
    logits = jax.nn.log_softmax(read(model, images))
    return -jnp.take_along_axis(logits, labels[:, None], axis=1).mean()


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()

    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize()
    rank, world_size = jax.process_index(), jax.process_count()
    mesh = Mesh(np.array(jax.devices()), ("data",))
    everywhere, in_parts = (
        NamedSharding(mesh, PartitionSpec()),
        NamedSharding(mesh, PartitionSpec("data")),
    )

    (images, labels), test = load_data()
    images, labels = images[rank::world_size], labels[rank::world_size]
    steps = int(TRAINING_SHARE * 1797) // world_size // arguments.batch_size
    print(f"rank {rank} of {world_size}: {len(labels)} training images", flush=True)

    @jax.jit
    def step(model: Model, images: jax.Array, labels: jax.Array) -> tuple[Model, jax.Array]:
        loss, gradients = jax.value_and_grad(loss_of)(model, images, labels)
        return {name: model[name] - arguments.lr * gradients[name] for name in model}, loss

    def shared(part: np.ndarray) -> jax.Array:
        """One array of all processes' parts."""
        return jax.make_array_from_process_local_data(in_parts, part)

    model = {
        name: jax.make_array_from_process_local_data(everywhere, value)
        for name, value in first_model().items()
    }
    draw = np.random.default_rng(rank)
    for epoch in range(1, arguments.epochs + 1):
        order, losses = draw.permutation(len(labels)), []
        for start in range(0, steps * arguments.batch_size, arguments.batch_size):
            batch = order[start : start + arguments.batch_size]
            model, loss = step(model, shared(images[batch]), shared(labels[batch]))
            losses.append(loss)
        if rank == 0:
            mean = sum(float(loss) for loss in losses) / steps
            print(f"epoch {epoch}/{arguments.epochs} loss {mean:.4f}", flush=True)

    weights = {name: np.asarray(value.addressable_data(0)) for name, value in model.items()}
    if rank == 0:
        right = np.asarray(read(weights, test[0])).argmax(axis=1) == test[1]
        print(f"accuracy {right.mean():.4f}", flush=True)
        OUTPUT.mkdir(exist_ok=True)
        np.savez(OUTPUT / "model.npz", **weights)


if __name__ == "__main__":
    main()
