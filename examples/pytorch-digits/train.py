"""Learn to read handwritten digits, on one process or on many (DistributedDataParallel over gloo).

python train.py                            # one process
torchrun --nproc-per-node 2 train.py       # two
"""

import argparse
import os
from pathlib import Path

import torch
import torch.distributed as dist
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data.distributed import DistributedSampler

OUTPUT = Path("out")
CHECKPOINTS = Path(os.environ.get("TESRA_CHECKPOINT_DIR", "checkpoints"))
TRAINING_SHARE = 0.8


class DigitReader(nn.Module):
    """An 8 x 8 grey image in, the scores of the ten digits out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 64),
            nn.ReLU(),
            nn.Linear(64, 10),
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layers(images)


def load_data() -> tuple[TensorDataset, TensorDataset]:
    """The digits that scikit-learn ships, shuffled the same way everywhere: (training, test)."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
    labels = torch.tensor(digits.target, dtype=torch.long)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    images, labels = images[order], labels[order]
    split = int(TRAINING_SHARE * len(labels))
    return TensorDataset(images[:split], labels[:split]), TensorDataset(
        images[split:], labels[split:]
    )


def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """The share of the images that the model reads rightly."""
    images, labels = data.tensors
    model.eval()
    with torch.no_grad():
        right = model(images).argmax(dim=1) == labels
    return right.float().mean().item()


def save(epoch: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Under another name first, so that there is always a whole checkpoint."""
    CHECKPOINTS.mkdir(exist_ok=True)
    state = {"epoch": epoch, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, CHECKPOINTS / "draft")
    (CHECKPOINTS / "draft").rename(CHECKPOINTS / "last.pt")


def resume(model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Go on from a checkpoint if there is one to go on from; how many epochs are done."""
    path = os.environ.get("TESRA_RESUME_FROM")
    if not path:
        return 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return state["epoch"]


def train(epochs: int, lr: float, batch_size: int) -> None:
    rank, world_size = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    training, test = load_data()
    sampler = DistributedSampler(training, num_replicas=world_size, rank=rank)
    loader = DataLoader(training, batch_size=batch_size, sampler=sampler)
    model = DistributedDataParallel(DigitReader())
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    criterion = nn.CrossEntropyLoss()
    done = resume(model.module, optimizer)

    print(f"rank {rank} of {world_size}: {len(sampler)} training images", flush=True)
    for epoch in range(done + 1, epochs + 1):
        sampler.set_epoch(epoch)
        model.train()
        total = 0.0
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            total += loss.item()
        if rank == 0:
            print(f"epoch {epoch}/{epochs} loss {total / len(loader):.4f}", flush=True)
            save(epoch, model.module, optimizer)

    if rank == 0:
        print(f"accuracy {accuracy(model.module, test):.4f}", flush=True)
        OUTPUT.mkdir(exist_ok=True)
        torch.save(model.module.state_dict(), OUTPUT / "model.pt")
    dist.barrier()  # leave together: the others wait until the model is saved


def main() -> None:
    parser = argparse.ArgumentParser(description="Learn to read handwritten digits.")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--lr", type=float, default=0.003)
    parser.add_argument("--batch-size", type=int, default=32)
    arguments = parser.parse_args()

    # Started by hand, without torchrun or the like, this process is a group of one.
    if "RANK" in os.environ:
        dist.init_process_group("gloo")
    else:
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        train(arguments.epochs, arguments.lr, arguments.batch_size)
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
