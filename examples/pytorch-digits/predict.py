"""Read the test images with a trained model: python predict.py out/model.pt"""

import argparse
import json

import torch
from train import DigitReader, accuracy, load_data


def main() -> None:
    parser = argparse.ArgumentParser(description="Read the test images with a trained model.")
    parser.add_argument("model", help="the model.pt that train.py saved")
    path = parser.parse_args().model

    model = DigitReader()
    model.load_state_dict(torch.load(path, weights_only=True))
    _, test = load_data()
    images, labels = test.tensors
    with torch.no_grad():
        read = model(images[:10]).argmax(dim=1)
    answer = {
        "read": read.tolist(),
        "truth": labels[:10].tolist(),
        "accuracy": round(accuracy(model, test), 4),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
