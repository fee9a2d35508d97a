"""What the doctor found in a project's code, and what it proposes. Plain values, ready for JSON."""

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from tesra.kit.saying import Said

Launch = Literal["gang", "single"]
Scalar = str | int | float | bool | None

DEFAULT_ENGINE = "pytorch"
DEFAULT_OUTPUT = "out"


@dataclass(frozen=True, slots=True)
class Evidence:
    """A line of the project, and what stands there in words."""

    file: str
    line: int
    text: Said

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True, slots=True)
class EngineProposal:
    """``name`` is None when the code uses no engine; ``backend`` only where Keras names one."""

    name: str | None
    backend: str | None
    reason: Said
    evidence: tuple[Evidence, ...] = ()
    others: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Candidate:
    """A file that can be started; ``entry`` is how a run names it, the best has the highest score."""

    entry: str
    file: str
    score: int
    reasons: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class EntryProposal:
    """``entry`` is None when there is no candidate; ``ambiguous`` when the first has equals."""

    entry: str | None
    ambiguous: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()


@dataclass(frozen=True, slots=True)
class LaunchProposal:
    """How to start it, and why."""

    launch: Launch
    reason: Said
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class MissingPackage:
    """A package that is imported and that neither a requirements file nor the engine brings."""

    package: str
    module: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Requirements:
    """The files that name packages, what they name, and what is missing there."""

    files: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    missing: tuple[MissingPackage, ...] = ()


@dataclass(frozen=True, slots=True)
class PathUse:
    """A path that the code reads or writes, ``*`` for what only the run knows.

    ``present`` says of a path that is read whether the project has it; None: it can't be said.
    """

    path: str
    evidence: Evidence
    present: bool | None = None


@dataclass(frozen=True, slots=True)
class OutputProposal:
    """The folder or file to keep, and every path that the code writes."""

    path: str
    reason: Said
    written: tuple[PathUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option of the script's own command line; ``default`` None when there is none, or none is known.

    ``others``: what else it is called.
    """

    name: str
    type: Literal["str", "int", "float", "bool"]
    default: Scalar
    evidence: Evidence
    required: bool = False
    choices: tuple[Scalar, ...] = ()
    help: str = ""
    flag: bool = False
    positional: bool = False
    others: tuple[str, ...] = ()


CautionKind = Literal[
    "absolute-path",
    "download",
    "cuda",
    "devices",
    "input",
    "unreadable",
    "missing-data",
    "lost-output",
    "limit",
]


@dataclass(frozen=True, slots=True)
class Caution:
    """Something that works on your machine and may not on another."""

    kind: CautionKind
    text: Said
    file: str = ""
    line: int = 0

    @property
    def place(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that was found in a project.

    ``all_parameters``: the script takes no others on its command line than ``parameters``.
    """

    engine: EngineProposal
    entry: EntryProposal
    launch: LaunchProposal
    output: OutputProposal
    requirements: Requirements = field(default_factory=Requirements)
    data: tuple[PathUse, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    warnings: tuple[Caution, ...] = ()
    all_parameters: bool = False

    def as_dict(self) -> dict[str, Any]:
        """Lists and plain values only."""
        found: dict[str, Any] = asdict(self)
        return found

    def command(self, project: str) -> list[str]:
        """The words of the ``tesra run`` that this report proposes."""
        words = ["tesra", "run", project, "--engine", self.engine.name or DEFAULT_ENGINE]
        words += ["--entry", self.entry.entry or "FILE", "--launch", self.launch.launch]
        words += ["--output", self.output.path]
        for missing in self.requirements.missing:
            words += ["--with", missing.package]
        return words
