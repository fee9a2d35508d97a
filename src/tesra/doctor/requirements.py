"""Which packages a project names, and which it imports without naming them."""

import re
import sys
import tomllib
from collections.abc import Iterator, Mapping

from tesra.doctor.project import Code, Project
from tesra.doctor.report import DEFAULT_ENGINE, Evidence, MissingPackage, Requirements
from tesra.kit.saying import said

_FILES = re.compile(
    r"requirements[\w.\-]*\.(txt|in)|pyproject\.toml|environment\.ya?ml|setup\.(py|cfg)|Pipfile"
)
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._\-]*")
_DEPENDENCY = re.compile(r"^\s*-\s*['\"]?([A-Za-z0-9][A-Za-z0-9._\-]*)", re.MULTILINE)
_QUOTED = re.compile(
    r"['\"]([A-Za-z0-9][A-Za-z0-9._\-]*)\s*(?:\[[^\]]*\])?\s*(?:[<>=!~;].*?)?['\"]"
)

PACKAGES: Mapping[str, str] = {
    "Bio": "biopython", "Crypto": "pycryptodome", "IPython": "ipython", "MySQLdb": "mysqlclient",
    "OpenGL": "PyOpenGL", "PIL": "pillow", "absl": "absl-py", "albumentations": "albumentations",
    "attr": "attrs", "bs4": "beautifulsoup4", "clip": "openai-clip", "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil", "docx": "python-docx", "dotenv": "python-dotenv",
    "faiss": "faiss-cpu", "fitz": "PyMuPDF", "google.protobuf": "protobuf", "grpc": "grpcio",
    "git": "GitPython", "haiku": "dm-haiku", "hydra": "hydra-core", "ignite": "pytorch-ignite",
    "igraph": "igraph", "jose": "python-jose", "jwt": "PyJWT", "keras_cv": "keras-cv",
    "keras_hub": "keras-hub", "keras_nlp": "keras-nlp", "keras_tuner": "keras-tuner",
    "lightning_fabric": "lightning-fabric", "magic": "python-magic", "mpl_toolkits": "matplotlib",
    "numpy": "numpy", "OpenSSL": "pyOpenSSL", "orbax": "orbax-checkpoint", "pl_bolts": "lightning-bolts",
    "pkg_resources": "setuptools", "pylab": "matplotlib", "pytorch_lightning": "pytorch-lightning",
    "sacrebleu": "sacrebleu", "segmentation_models_pytorch": "segmentation-models-pytorch",
    "sentence_transformers": "sentence-transformers", "serial": "pyserial", "skimage": "scikit-image",
    "sklearn": "scikit-learn", "skopt": "scikit-optimize", "slugify": "python-slugify",
    "tensorflow_addons": "tensorflow-addons", "tensorflow_datasets": "tensorflow-datasets",
    "tensorflow_hub": "tensorflow-hub", "tensorflow_probability": "tensorflow-probability",
    "tensorflow_text": "tensorflow-text", "tf_keras": "tf-keras", "torch_geometric": "torch-geometric",
    "umap": "umap-learn", "usb": "pyusb", "websocket": "websocket-client", "yaml": "PyYAML",
    "zmq": "pyzmq",
}  # fmt: skip
_INSTEAD: Mapping[str, frozenset[str]] = {  # other packages that bring the same module
    "faiss-cpu": frozenset({"faiss-gpu", "faiss-gpu-cu11", "faiss-gpu-cu12"}),
    "mlflow": frozenset({"mlflow-skinny"}),
    "opencv-python-headless": frozenset(
        {"opencv-python", "opencv-contrib-python", "opencv-contrib-python-headless"}
    ),
    "pytorch-lightning": frozenset({"lightning"}),
}
_SCIENCE = frozenset({"numpy", "scipy", "ml_dtypes", "opt_einsum"})
_BROUGHT: Mapping[str, frozenset[str]] = {
    "pytorch": frozenset(
        {"torch", "functorch", "torchgen", "numpy", "sympy", "networkx", "jinja2", "fsspec"}
        | {"filelock", "typing_extensions", "mpmath"}
    ),
    "tensorflow": frozenset(
        {"tensorflow", "keras", "numpy", "h5py", "absl", "google", "grpc", "requests", "rich"}
        | {"six", "packaging", "termcolor", "typing_extensions", "wrapt", "ml_dtypes", "optree"}
    ),
    "keras": frozenset(
        {"keras", "numpy", "h5py", "absl", "rich", "optree", "packaging", "ml_dtypes"}
    ),
    "mxnet": frozenset({"mxnet", "numpy", "scipy", "requests", "graphviz"}),
    "jax": frozenset({"jax", "jaxlib"}) | _SCIENCE,
}
_BACKEND_BROUGHT = {
    "torch": _BROUGHT["pytorch"],
    "tensorflow": _BROUGHT["tensorflow"],
    "jax": _BROUGHT["jax"],
    None: _BROUGHT["jax"],
}
_MORE = {"torch.utils.tensorboard": "tensorboard"}  # needed by a module that the engine brings
_ALWAYS = frozenset({"tesra", "__future__", "__main__"})


def find_requirements(code: Code, engine: str | None, backend: str | None) -> Requirements:
    """What is named, and what is imported unguarded and neither named, nor brought, nor local."""
    project = code.project
    files = tuple(sorted(p for p in project.paths if "/" not in p and _FILES.fullmatch(p)))
    named = tuple(dict.fromkeys(name for file in files for name in _names_in(project, file)))
    known = {_normal(name) for name in named}
    brought = _BROUGHT.get(engine or DEFAULT_ENGINE, frozenset())
    if engine == "keras":
        brought |= _BACKEND_BROUGHT.get(backend, frozenset())
    missing: dict[str, MissingPackage] = {}
    for module, evidence in _third_party(code):
        package = _MORE.get(module) or package_of(module)
        here = module.partition(".")[0] in brought and module not in _MORE
        serving = {_normal(package)} | _INSTEAD.get(package, frozenset())
        if not here and not serving & known:
            missing.setdefault(package, MissingPackage(package, module, evidence))
    return Requirements(files, named, tuple(missing.values()))


def package_of(module: str) -> str:
    """The package to install for a module: ``sklearn`` → ``scikit-learn``."""
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        name = ".".join(parts[:length])
        if name in PACKAGES:
            return PACKAGES[name]
    return parts[0]


def _third_party(code: Code) -> Iterator[tuple[str, Evidence]]:
    for source in code.sources:
        for found in source.imports:
            root = found.module.partition(".")[0]
            if found.optional or root in sys.stdlib_module_names or root in _ALWAYS:
                continue
            if not code.project.is_local(source, found):
                text = said(f"imports {found.module}")
                yield found.module, Evidence(source.path, found.line, text)


def _names_in(project: Project, file: str) -> Iterator[str]:
    text = project.texts.get(file, "")
    if file == "pyproject.toml":
        yield from _names_in_pyproject(text)
    elif file.endswith((".yml", ".yaml")):
        yield from (found[1] for found in _DEPENDENCY.finditer(text))
    elif file.endswith((".txt", ".in")):
        for line in text.splitlines():
            found = _NAME.match(line.strip())
            if found is not None:
                yield found[0]
    else:  # setup.py, setup.cfg, Pipfile: whatever could be a requirement there
        yield from (found[1] for found in _QUOTED.finditer(text))
        yield from (found[0] for line in text.splitlines() if (found := _NAME.match(line.strip())))


def _names_in_pyproject(text: str) -> Iterator[str]:
    try:
        project = tomllib.loads(text).get("project", {})
        lines = project.get("dependencies", [])
    except (tomllib.TOMLDecodeError, AttributeError):
        return
    for line in lines if isinstance(lines, list) else []:
        found = _NAME.match(line.strip()) if isinstance(line, str) else None
        if found is not None:
            yield found[0]


def _normal(name: str) -> str:
    """Names that differ in case, dots, dashes and underscores are one (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
