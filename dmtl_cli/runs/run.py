"""What every stage starts from and ends with: the config, a key known before the work, one published result."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dmtl_cli import __version__
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.schema import Config
from dmtl_cli.runs.artifact import Manifest, Publication, key_of, publish, up_to_date, verify
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.workspace import Workspace

Parent = tuple[Path, Manifest]


@dataclass(frozen=True)
class Result:
    """What a stage did, as `--json` prints it."""

    stage: str
    day: str
    key: str
    run_id: str
    path: str
    rows: dict[str, int]
    metrics: dict[str, float]
    gates: list[dict[str, Any]]
    up_to_date: bool

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Draft:
    """What a stage says of the run it has written."""

    rows: dict[str, int]
    metrics: dict[str, float]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    gates: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Run:
    """One command over one config."""

    config: Config
    ws: Workspace
    log: RunLog
    device: torch.device
    ranks: Ranks = ALONE
    frozen: bool = False
    """whether to publish nothing, only find what is published"""
    done: list[Result] = dataclasses.field(default_factory=list)
    """every result so far, so that a later failure does not hide it"""

    @staticmethod
    def of(config: Config, log: RunLog, ranks: Ranks = ALONE) -> Run:
        """Sets torch's threads and determinism. Raises UserError 69 when the device asked for is not there."""
        name = config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        elif name == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda, but torch sees no GPU", "use --device cpu or auto", Exit.NO_DEVICE)
        torch.set_num_threads(config.threads)
        # warn_only would print: on CUDA a few scatters are not deterministic, which the manifest's device says
        # as use_deterministic_algorithms does, which imports torch's compiler for it: half a second, 70 MB
        torch.set_deterministic_debug_mode("error" if name == "cpu" else "default")
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        device = torch.device(name, ranks.local) if name == "cuda" and ranks.size > 1 else torch.device(name)
        if device.index is not None:
            torch.cuda.set_device(device)
        return Run(config, Workspace(Path(config.workspace)), log, device, ranks)

    def rng(self, *words: object) -> np.random.Generator:
        """A generator of its own for each purpose: the same seed and words give the same numbers."""
        return np.random.default_rng(self._seed(words))

    def seed_torch(self, *words: object) -> None:
        torch.manual_seed(self._seed(words))

    def _seed(self, words: Iterable[object]) -> int:
        text = "|".join(map(str, (self.config.seed, *words)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def versions(self) -> dict[str, str]:
        named = ("torch", "numpy", "polars", "pyarrow", "onnx", "onnxruntime", "onnxscript", "safetensors")
        return {
            "dmtl": __version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            **{name: importlib.metadata.version(name) for name in named},
            "device": self.device.type,
            "cpu": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
            **({"ranks": str(self.ranks.size)} if self.ranks.size > 1 else {}),
        }

    # -- parents -------------------------------------------------------------------------------------------------------

    def parent(
        self, stage: str, day: dt.date, sub: str | None = None, *, run_id: str | None = None, hint: str = ""
    ) -> Parent:
        """The current run of a stage and day (or the one with a given id), verified.

        Raises:
            UserError: 66 when there is none, 65 when it is damaged.
        """
        path = self.ws.current(stage, day, sub)
        if run_id is not None:
            path = self.ws.stage_dir(stage, day, sub) / f"run-{run_id}"
        if path is None or not path.is_dir():
            where = self.ws.stage_dir(stage, day, sub)
            raise UserError(f"no published {stage} of day {day} in {where}", hint, Exit.NO_INPUT)
        manifest = verify(path)
        if manifest.stage != stage or manifest.day != day:
            raise UserError(f"{path}: expected {stage} of {day}, holds {manifest.stage} of {manifest.day}")
        return path, manifest

    def newest(self, stage: str, before: dt.date) -> Parent | None:
        day = self.ws.newest(stage, before)
        return None if day is None else self.parent(stage, day)

    # -- publishing ----------------------------------------------------------------------------------------------------

    def sections(self, *names: str) -> dict[str, Any]:
        """The parts of the config that a stage depends on, less locations; `plain_autograd` where it is true, so that
        a config without it has the key that it always had."""
        whole = self.config.model_dump(mode="json")
        whole["data"] = {k: v for k, v in whole["data"].items() if k not in ("root", "truth")}
        plain = {"plain_autograd": True} if self.config.plain_autograd else {}
        return {k: v for k, v in whole.items() if k in {"data", "features", "labels", *names}} | plain

    def publish(
        self,
        stage: str,
        day: dt.date,
        config: dict[str, Any],
        inputs: list[dict[str, Any]],
        parents: list[Parent],
        work: Callable[[Publication], Draft],
        *,
        sub: str | None = None,
        latest: bool = False,
        shared: bool = True,
    ) -> Result:
        """Runs `work` and publishes what it wrote, unless the very same is published already.

        Args:
            shared: whether all ranks work, of which rank 0 writes what is published; else rank 0 works alone.

        Raises:
            UserError: this run is frozen, and 65 it is not, or 80 it was refused; else what `work` raises.
        """
        versions = self.versions()
        named = [m.as_parent() for _, m in parents]
        key = key_of(
            stage=stage,
            day=day,
            config=config,
            seed=self.config.seed,
            versions=versions,
            threads=self.config.threads,
            inputs=inputs,
            parents=named,
        )
        done = self.ranks.of_first(lambda: self._published(stage, day, sub, key, latest))
        if done is not None:
            return self._result(*done, None)
        start = time.perf_counter()
        with self._publication(stage, day, sub, latest) as publication:

            def written() -> Draft:
                return self._written(work, publication)

            draft = written() if shared else self.ranks.of_first(written)

            def seal() -> Parent:
                return publication.seal(
                    {
                        "key": key,
                        "config": config,
                        "seed": self.config.seed,
                        "versions": versions,
                        "threads": self.config.threads,
                        "inputs": inputs,
                        "parents": named,
                        "rows": draft.rows,
                        "metrics": draft.metrics,
                        "gates": draft.gates,
                        "facts": draft.facts,
                        "key_warnings": self._key_warnings(),
                    }
                )

            path, manifest = self.ranks.of_first(seal)
        self.ws.refusal_path(stage, day).unlink(missing_ok=True)
        return self._result(path, manifest, time.perf_counter() - start)

    def _published(self, stage: str, day: dt.date, sub: str | None, key: str, latest: bool) -> Parent | None:
        """The run of that key, where there is one; else None, or UserError as this run is frozen."""
        if (done := up_to_date(self.ws, stage, day, sub, key)) and (not latest or self._serves()):
            return done
        refusal = self.ws.refusal_path(stage, day)
        if self.frozen and refusal.exists():
            raise UserError(refusal.read_text().strip().removeprefix("dmtl: error: "), code=Exit.REFUSED)
        if self.frozen:
            what = f"{stage} of {day} in {self.ws.root} is not there, or of another config, log or version"
            raise UserError(
                what, "backfill again with this config; to try a change beside the chain name it in --settings"
            )
        return None

    @contextmanager
    def _publication(self, stage: str, day: dt.date, sub: str | None, latest: bool) -> Iterator[Publication]:
        """Where all ranks work: the folder that rank 0 locked and will publish, and for each a scratch of its own."""
        with ExitStack() as stack:

            def begin() -> Publication:
                return stack.enter_context(publish(self.ws, stage, day, sub, latest=latest))

            shared = self.ranks.of_first(begin)
            if self.ranks.size > 1:
                shared = dataclasses.replace(shared, tmp=shared.tmp / f"rank-{self.ranks.rank}")
                shared.tmp.mkdir()
            yield shared

    def _written(self, work: Callable[[Publication], Draft], publication: Publication) -> Draft:
        try:
            return work(publication)
        except UserError as e:
            if e.code == Exit.REFUSED and self.ranks.first:  # for `status`; never read by a stage
                refusal = self.ws.refusal_path(publication.stage, publication.day)
                refusal.parent.mkdir(parents=True, exist_ok=True)
                refusal.write_text(e.line() + "\n")
            raise

    def _serves(self) -> bool:
        """Whether LATEST names an export; publishing heals one that does not."""
        try:
            return self.ws.latest() is not None
        except UserError as e:
            if e.code != Exit.DATA:
                raise
            return False

    def _key_warnings(self) -> list[str]:
        if self.device.type == "cuda":
            return ["on CUDA the same key gives results equal within rounding, not the same bytes"]
        return []

    def _result(self, path: Path, m: Manifest, seconds: float | None) -> Result:
        """`seconds` that it took to make; None: it was there."""
        up_to_date = seconds is None
        result = Result(m.stage, str(m.day), m.key, m.run_id, str(path), m.rows, m.metrics, m.gates, up_to_date)
        self.log.published(seconds, **result.to_dict())
        verb = "up to date" if up_to_date else "published"
        self.log.say(f"{m.stage} {m.day}: {verb} {m.run_id}")
        self.done.append(result)
        return result
