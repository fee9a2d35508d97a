"""What the doctor makes of projects, from their text alone."""

import re
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tesra.doctor.examine import examine, is_wanted
from tesra.doctor.project import MAX_FILE_BYTES
from tesra.doctor.report import Report

_FOLDER = re.compile("(?<=[a-z])__(?=[a-z]|__)")
LOOP = "for x in []:\n    loss.backward()\n"
MAIN = "if __name__ == '__main__':\n    main()\n"


def report(entry: str | None = None, /, *paths: str, **files: str) -> Report:
    """The report on files, named without their suffix; ``a__b`` is ``b`` in the folder ``a``."""
    contents = {
        f"{_FOLDER.sub('/', name)}.py": dedent(text).encode() for name, text in files.items()
    }
    return examine(contents, paths, entry=entry)


def cautions(found: Report, kind: str) -> list[str]:
    return [f"{one.place} {one.text}" for one in found.warnings if one.kind == kind]


# Engine


@pytest.mark.parametrize(
    ("code", "engine", "backend"),
    [
        ("import torch", "pytorch", None),
        ("from torch import nn", "pytorch", None),
        ("import pytorch_lightning as pl", "pytorch", None),
        ("from accelerate import Accelerator", "pytorch", None),
        ("from transformers import AutoModel, Trainer", "pytorch", None),
        ("from transformers import TFAutoModel", "tensorflow", None),
        ("import tensorflow as tf\nfrom tensorflow import keras", "tensorflow", None),
        ("import keras", "keras", None),
        ("import os\nos.environ['KERAS_BACKEND'] = 'jax'\nimport keras", "keras", "jax"),
        ("import os\nos.environ.setdefault('KERAS_BACKEND', 'torch')\nimport keras", "keras", "torch"),
        ("import keras\nimport torch", "keras", "torch"),
        ("import keras\nimport tensorflow as tf", "tensorflow", None),
        ("import mxnet as mx", "mxnet", None),
        ("from mxnet import gluon", "mxnet", None),
        ("import jax.numpy as jnp", "jax", None),
        ("import flax.linen as nn\nimport optax", "jax", None),
        ("import numpy", None, None),
        ("torch = 'a word'\nprint('import tensorflow')", None, None),
        ("try:\n    import tensorflow\nexcept ImportError:\n    pass\nimport torch", "pytorch", None),
    ],
)  # fmt: skip
def test_the_engine_is_what_the_code_imports(code: str, engine: str, backend: str) -> None:
    found = report(train=code + "\nprint()").engine
    assert (found.name, found.backend) == (engine, backend)


def test_a_folder_of_the_project_is_no_engine() -> None:
    assert report(train="import keras\nprint()", keras____init__="").engine.name is None


def test_the_engine_has_its_line_as_evidence() -> None:
    found = report(train="import os\n\nimport torch\nprint()").engine
    assert found.reason == "train.py:3 imports torch"
    assert found.evidence[0].place == "train.py:3"


def test_an_engine_that_only_a_helper_imports_counts() -> None:
    found = report(train=f"import helper\n{MAIN}", helper="import jax", notused="import torch")
    assert found.engine.name == "jax"


# Entry


def test_the_file_that_trains_is_the_entry() -> None:
    found = report(
        model="import torch\nclass Net: pass",
        predict=f"import torch\n{MAIN}",
        learn=f"import torch\nimport model\n{LOOP}",
    )
    assert (found.entry.entry, found.entry.ambiguous) == ("learn.py", ())


def test_two_that_both_train_are_both_named() -> None:
    found = report(train_a=f"import torch\n{LOOP}", train_b=f"import torch\n{LOOP}").entry
    assert found.ambiguous == ("train_a.py", "train_b.py")


def test_a_file_that_only_defines_is_no_entry() -> None:
    assert report(train="def train():\n    pass").entry.entry is None


def test_main_that_trains_through_a_library_is_the_entry() -> None:
    found = report(
        main=f"from lib.loop import fit\n{MAIN}",
        lib__loop="import torch\ndef fit():\n    loss.backward()",
    ).entry
    assert found.entry == "main.py"
    assert "trains through lib/loop.py" in " ".join(found.candidates[0].reasons)


def test_tests_setup_and_helpers_stay_behind() -> None:
    found = report(
        setup="from setuptools import setup\nsetup()",
        tests__test_train=f"import torch\n{LOOP}",
        download_data=MAIN,
        run=f"import torch\n{LOOP}",
    ).entry
    assert (found.entry, found.ambiguous) == ("run.py", ())


def test_a_file_within_a_package_is_started_as_its_module() -> None:
    relative = report(pkg__train=f"from . import model\n{MAIN}", pkg__model="", pkg____init__="")
    assert relative.entry.entry == "pkg.train"
    from_top = report(scripts__train=f"import lib.net\n{MAIN}", lib__net="", lib____init__="")
    assert from_top.entry.entry == "scripts.train"
    alone = report(scripts__train=f"import net\n{MAIN}", scripts__net="")
    assert alone.entry.entry == "scripts/train.py"
    main = report(pkg____main__=f"from pkg import net\n{MAIN}", pkg__net="", pkg____init__="")
    assert main.entry.entry == "pkg"


def test_what_is_to_be_started_decides_what_is_looked_at() -> None:
    files = {"a": f"import torch\n{LOOP}", "b": f"import jax\n{LOOP}"}
    assert report("a.py", **files).engine.name == "pytorch"
    assert report("b", **files).engine.name == "jax"
    assert report("b:main", **files).engine.name == "jax"


# Launch


@pytest.mark.parametrize(
    ("code", "launch", "word"),
    [
        ("import torch.distributed as dist\ndist.init_process_group('gloo')", "gang", "train.py:2"),
        ("from torch.distributed import init_process_group as go\ngo()", "gang", "process group"),
        ("from torch.nn.parallel import DistributedDataParallel as D\nD(m)", "gang", "shares"),
        ("import lightning as L\nL.Trainer().fit(m)", "gang", "Lightning"),
        ("import pytorch_lightning as pl\npl.Trainer().fit(m)", "gang", "Lightning"),
        ("from accelerate import Accelerator\na = Accelerator()", "gang", "accelerate"),
        ("from transformers import Trainer\nTrainer(m).train()", "gang", "transformers"),
        ("import tensorflow as tf\ntf.distribute.MultiWorkerMirroredStrategy()", "gang", "Worker"),
        ("import tensorflow as tf\ntf.distribute.MirroredStrategy()", "single", "one process"),
        ("import mxnet as mx\nkv = mx.kvstore.create('dist_sync')", "gang", "dist_sync"),
        ("import mxnet as mx\nkv = mx.kv.create('local')", "single", "nothing"),
        ("from mxnet import gluon\ngluon.Trainer(p, 'sgd', kvstore='dist_async')", "gang", "dist"),
        ("import jax\njax.distributed.initialize()", "gang", "jax.distributed"),
        ("import keras\nkeras.distribution.initialize()", "gang", "Keras"),
        ("import os\nrank = int(os.environ['LOCAL_RANK'])\nprint()", "gang", "LOCAL_RANK"),
        ("import torch\nm = torch.nn.DataParallel(m)\nprint()", "single", "one process"),
        ("import torch\nprint('init_process_group')", "single", "nothing"),
        ("def init_process_group(): pass\ninit_process_group()", "single", "nothing"),
        (
            "import torch.multiprocessing as mp, torch.distributed as dist\n"
            "def go(r): dist.init_process_group('gloo', rank=r)\nmp.spawn(go)",
            "single",
            "own processes",
        ),
    ],
)  # fmt: skip
def test_the_launch_follows_what_the_code_uses(code: str, launch: str, word: str) -> None:
    found = report(train=code).launch
    assert found.launch == launch
    assert word in found.reason


def test_a_kvstore_by_default_of_an_option_counts() -> None:
    found = report(
        train="""
        import argparse, mxnet as mx
        parser = argparse.ArgumentParser()
        parser.add_argument("--kv-store", default="dist_sync")
        args = parser.parse_args()
        kv = mx.kvstore.create(args.kv_store)
        """
    )
    assert found.launch.launch == "gang"


# Requirements


def test_packages_that_nobody_names_are_proposed_under_their_own_name() -> None:
    found = report(
        train="""
        import os, torch, numpy, cv2, yaml
        from PIL import Image
        from bs4 import BeautifulSoup
        from sklearn.datasets import load_digits
        import helper
        try:
            import wandb
        except ImportError:
            wandb = None
        def log(args):
            if args.comet:
                import comet_ml
        from torch.utils.tensorboard import SummaryWriter
        print()
        """,
        helper="import tqdm",
    )
    packages = [one.package for one in found.requirements.missing]
    assert packages == [
        *(
            "opencv-python-headless",
            "PyYAML",
            "pillow",
            "beautifulsoup4",
            "scikit-learn",
            "tensorboard",
            "tqdm",
        )
    ]


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("requirements.txt", "# the usual\nScikit_Learn>=1.5  # here\nPillow\n"),
        ("pyproject.toml", '[project]\ndependencies = ["scikit-learn>=1", "pillow"]\n'),
        ("environment.yml", "dependencies:\n  - pip\n  - pip:\n    - scikit-learn==1.5\n    - pillow\n"),
    ],
)  # fmt: skip
def test_what_a_requirements_file_names_is_not_missing(file: str, content: str) -> None:
    code = b"import torch, sklearn, PIL.Image\nprint()"
    found = examine({"train.py": code, file: content.encode()}).requirements
    assert found.files == (file,)
    assert found.missing == ()


@pytest.mark.parametrize(
    ("module", "named"),
    [("cv2", "opencv-python"), ("mlflow", "mlflow-skinny"), ("faiss", "faiss-gpu")],
)
def test_another_package_that_brings_the_module_is_as_good(module: str, named: str) -> None:
    code = f"import torch, {module}\nprint()".encode()
    found = examine({"train.py": code, "requirements.txt": named.encode()}).requirements
    assert found.missing == ()


def test_a_project_that_is_a_notebook_is_told_how_to_become_a_script() -> None:
    found = examine({}, ["README.md", "nb/train.ipynb"])
    assert found.entry.entry is None
    (told,) = cautions(found, "limit")
    assert "nb/train.ipynb is a notebook" in told
    assert "nbconvert" in told
    assert cautions(examine({"train.py": b"print()"}, ["train.ipynb"]), "limit") == []


def test_a_broken_pyproject_names_nothing_and_hurts_nobody() -> None:
    found = examine({"t.py": b"import tqdm\nprint()", "pyproject.toml": b"[project\n\xff"})
    assert [one.package for one in found.requirements.missing] == ["tqdm"]


# Output and data


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("import torch\ntorch.save(m, 'out/model.pt')", "out"),
        ("import torch, os\nD = 'results'\ntorch.save(m, os.path.join(D, 'a', 'm.pt'))", "results/a"),
        ("import torch\nfrom pathlib import Path\nOUT = Path('o')\ntorch.save(m, OUT / 'm.pt')", "o"),
        ("import torch\nfor e in r:\n    torch.save(m, f'ckpt/epoch_{e}.pt')", "ckpt"),
        ("import torch\ntorch.save(m, 'runs/%s/m.pt' % name)", "runs"),
        ("import torch\ntorch.save(m, 'deep/{}.pt'.format(e))", "deep"),
        ("import torch\ntorch.save(m, 'model.pt')", "model.pt"),
        ("import torch\ntorch.save(m, 'made/model')", "made"),
        ("import torch\ntorch.save(m, 'out/models/m.pt')\nopen('out/logs/x', 'w')", "out"),
        ("from pathlib import Path\nimport torch\nH = Path(__file__).resolve().parent\n"
         "torch.save(m, H / 'weights' / 'm.pt')", "weights"),
        ("import os, torch\nO = os.environ.get('TESRA_OUTPUT_DIR', 'made')\n"
         "torch.save(m, os.path.join(O, 'm.pt'))", "made"),
        ("import keras\nmodel.fit(x)\nmodel.save('saved/model.keras')", "saved"),
        ("import keras\nkeras.callbacks.ModelCheckpoint('cp/{epoch:02d}.keras')", "cp"),
        ("from transformers import TrainingArguments as T\nT(output_dir='hf')", "hf"),
        ("import lightning as L\nL.Trainer()", "lightning_logs"),
        ("import numpy as np\nnp.save('arrays/w.npy', w)", "arrays"),
        ("with open('metrics/log.txt', 'w') as f:\n    f.write('x')", "metrics"),
        ("model.save_pretrained('pre/final')\nopen('pre/log.csv', mode='a')", "pre"),
        ("import torch\ntorch.save(m, 'a/m.pt')\nopen('b/log.txt', 'w')", "a"),
        ("import torch\ntorch.save(m, '/data/out/m.pt')", "out"),
        ("import torch\ntorch.save(m, '../m.pt')", "out"),
        ("import torch\ndef save(m, filename='best.pt'):\n    torch.save(m, filename)\nsave(1)",
         "best.pt"),
        ("print('nothing')", "out"),
    ],
)  # fmt: skip
def test_the_output_is_where_the_model_is_written(code: str, output: str) -> None:
    assert report(train=code).output.path == output


def test_defaults_of_options_are_followed() -> None:
    found = report(
        train="""
        import os, torch
        from options import parse
        def main(args):
            torch.save(m, os.path.join(self.args.output_dir, f"{args.name}.pt"))
        main(parse())
        """,
        options="""
        import argparse
        def parse():
            p = argparse.ArgumentParser()
            p.add_argument("--output-dir", "-o", default="exp/one")
            p.add_argument("--data-dir", default="./data")
            p.add_argument("--name", default="net")
            return p.parse_args()
        """,
    )
    assert found.output.path == "exp/one"
    assert "exp/one/net.pt" in [one.path for one in found.output.written]
    assert [one.path for one in found.data] == ["./data"]


def test_constants_of_another_file_are_followed() -> None:
    found = report(
        train="import torch\nimport config\nfrom config import C\n"
        "torch.save(m, config.OUT + '/m.pt')\nopen(C.data)",
        config="OUT = 'there'\nclass C:\n    data = 'in/x.csv'",
    )
    assert found.output.path == "there"
    assert [one.path for one in found.data] == ["in/x.csv"]


def test_a_name_with_two_values_is_not_known() -> None:
    code = "import torch\nO = 'a'\nif x:\n    O = 'b'\ntorch.save(m, O + '/m.pt')"
    assert report(train=code).output.path == "out"


def test_data_that_is_read_is_looked_for_in_the_project() -> None:
    code = (
        "import pandas as pd, numpy as np\npd.read_csv('data/a.csv')\nnp.load('b.npy')\n"
        "open('s3://bucket/x')\nprint()"
    )
    found = report(None, "data/a.csv", train=code)
    assert [(one.path, one.present) for one in found.data] == [
        ("data/a.csv", True), ("b.npy", False), ("s3://bucket/x", None),
    ]  # fmt: skip
    assert cautions(found, "missing-data") == [
        "train.py:3 reads b.npy, which is not in the project (or is ignored there)"
    ]


# Parameters


def test_options_are_listed_with_type_and_default() -> None:
    found = report(
        train="""
        import argparse, click
        from absl import flags
        p = argparse.ArgumentParser()
        p.add_argument("data")
        p.add_argument("-l", "--lr", type=float, default=1e-3, help="the step")
        p.add_argument("--epochs", default=64 * 2)
        p.add_argument("--opt", choices=["sgd", "adam"], default="sgd")
        p.add_argument("--amp", action="store_true")
        p.add_argument("--seed", type=int, required=True)
        flags.DEFINE_integer("width", 8, "how wide")
        @click.option("--depth", type=click.INT, default=3)
        def main(depth): pass
        main()
        """
    ).parameters
    shown = {one.name: (one.type, one.default, one.required) for one in found}
    assert shown == {
        "data": ("str", None, True),
        "lr": ("float", 0.001, False),
        "epochs": ("int", 128, False),
        "opt": ("str", "sgd", False),
        "amp": ("bool", False, False),
        "seed": ("int", None, True),
        "width": ("int", 8, False),
        "depth": ("int", 3, False),
    }
    assert found[0].positional
    assert found[1].help == "the step"
    assert found[3].choices == ("sgd", "adam")
    assert found[4].flag


# Warnings


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("open('/home/ann/data.csv')", "absolute-path"),
        ("D = '/mnt/sets/cifar'\nprint()", "absolute-path"),
        ("open('C:\\\\Users\\\\ann\\\\x.csv')", "absolute-path"),
        ("open('~/x')", "absolute-path"),
        ("from torchvision import datasets as d\nd.MNIST('data', download=True)", "download"),
        ("import torch\ntorch.hub.load('a', 'b')", "download"),
        ("from urllib.request import urlretrieve\nurlretrieve('http://x')", "download"),
        ("import keras\nkeras.datasets.mnist.load_data()", "download"),
        ("from keras.datasets import mnist\nmnist.load_data()", "download"),
        ("from datasets import load_dataset\nload_dataset('imdb')", "download"),
        ("from transformers import AutoModel\nAutoModel.from_pretrained('bert')", "download"),
        ("from torchvision.models import resnet18\nresnet18(weights='DEFAULT')", "download"),
        ("import torch\nmodel.cuda()", "cuda"),
        ("import torch\nmodel.to('cuda:0')", "cuda"),
        ("import torch\nd = torch.device('cuda')\nprint()", "cuda"),
        ("import torch\ntorch.zeros(3, device='cuda')", "cuda"),
        ("import os\nos.environ['CUDA_VISIBLE_DEVICES'] = '0'\nprint()", "devices"),
        ("name = input('who? ')\nprint()", "input"),
        ("import torch\ntorch.save(m, '../m.pt')", "lost-output"),
        ("def broken(:\n", "unreadable"),
        ("print 'python 2'", "unreadable"),
    ],
)
def test_what_may_not_work_elsewhere_is_warned_of(code: str, kind: str) -> None:
    assert cautions(report(train=code), kind)


@pytest.mark.parametrize(
    "code",
    [
        "import torch\nd = 'cuda' if torch.cuda.is_available() else 'cpu'\nmodel.to('cuda')",
        "from torchvision import datasets as d\nd.MNIST('data', download=False)",
        "from torchvision.models import resnet18\nresnet18(weights=None)",
        "def f():\n    '''Reads /home/ann/x.'''\nprint('go to /home for more')",
        "def input(x): return x\ninput('a')",
        "import os\nos.makedirs('/tmp/scratch')",
    ],
)
def test_what_is_fine_is_not_warned_of(code: str) -> None:
    found = [one for one in report(train=code).warnings if one.kind != "missing-data"]
    assert found == []


# Whatever the files hold


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\x00",
        b"\xff\xfe\x00i",
        b"# -*- coding: nonsense -*-\n",
        b"\xef\xbb\xbfimport torch\n",
        b"(" * 5000,
        b"x = " + b"-" * 20000 + b"1",
        b"x = " + b"1+" * 20000 + b"1",
        b"x = a" + b".b" * 20000,
        b"a = b\nb = a\nopen(a)\n",
        b"a = a + a\nopen(a, 'w')\n",
        b"x = '*' * 10 ** 12\nopen(x)\n",
        b"from . import x\nfrom .... import y\nfrom ...z import w\n",
        b"import train\nfrom train import *\n",
        b"open()\nopen(*a)\nopen(**b)\ntorch.save()\nparser.add_argument()\n",
        b"while True: pass\n",
        b"lambda: (yield)\n",
        b"with open('a') as f, g() as (h, i): pass\n",
        b"os.path.join()\nPath()\n'{}'.format\n''.join\n",
        b"match x:\n    case {'a': b}: pass\n",
        b"p = __file__\nimport pathlib\nopen(pathlib.Path(p).parents[99])\n",
    ],
)
def test_the_doctor_survives_any_file(content: bytes) -> None:
    assert examine({"train.py": content}).as_dict()


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.text(max_size=200))
def test_the_doctor_survives_any_bytes_and_any_text(raw: bytes, text: str) -> None:
    assert examine({"a.py": raw, "b.py": text.encode("utf-8", "surrogatepass")}).as_dict()


def test_imports_in_a_circle_end() -> None:
    found = report(
        a=f"import b\nfrom b import X\nX2 = X\n{MAIN}", b="import a\nfrom a import X2\nX = X2"
    )
    assert found.entry.entry == "a.py"


def test_a_project_without_python_has_no_entry() -> None:
    found = examine({"README.md": b"# hello"})
    assert (found.entry.entry, found.engine.name) == (None, None)


def test_too_large_a_file_is_told_not_read() -> None:
    found = examine({"big.py": b"#" * (MAX_FILE_BYTES + 1), "train.py": b"import torch\nprint()"})
    assert cautions(found, "limit")
    assert is_wanted("train.py", 10)
    assert not is_wanted("model.pt", 10)


def test_the_proposed_command_can_be_typed() -> None:
    found = report(train="import torch, tqdm\ntorch.save(m, 'result/m.pt')")
    assert found.command("dir") == [
        *("tesra", "run", "dir", "--engine", "pytorch", "--entry", "train.py"),
        *("--launch", "single", "--output", "result", "--with", "tqdm"),
    ]  # fmt: skip


def test_python_files_that_were_not_handed_over_are_counted() -> None:
    found = examine({"train.py": b"print(1)\n"}, ["train.py", "large.py", "notes.txt"])
    assert [one.text for one in found.warnings if one.kind == "limit"] == [
        "1 Python files were not looked at: too many, or too large"
    ]
    assert not is_wanted("large.py", 50_000_000)


def test_what_goes_to_the_checkpoint_folder_is_not_the_output() -> None:
    code = (
        "import os, torch\nfrom pathlib import Path\n"
        "KEPT = Path(os.environ.get('TESRA_CHECKPOINT_DIR', 'checkpoints'))\n"
        "torch.save(state, KEPT / 'draft')\nPath('out').mkdir()\ntorch.save(m, 'out/model.pt')\n"
    )
    found = examine({"train.py": code.encode()})
    assert found.output.path == "out"
    assert [one.kind for one in found.warnings] == []
