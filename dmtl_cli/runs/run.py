"""What every stage starts from and ends with: the config, a key known before the work, one published result."""

from __future__ import annotations

import dataclasses
import datetime as dt
import functools
import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from dmtl_cli import __version__
from dmtl_cli.config.errors import Exit, UserError
from dmtl_cli.config.evaluate import TOPK
from dmtl_cli.config.schema import Config
from dmtl_cli.runs.allocator import keep_few_products, keep_freed_memory
from dmtl_cli.runs.artifact import Publication, publish, up_to_date
from dmtl_cli.runs.contents import check_facts, there
from dmtl_cli.runs.determinism import make_deterministic
from dmtl_cli.runs.differences import refuse_other_days, why_not_there
from dmtl_cli.runs.gates import Gate, Measure, judge, past, refusal
from dmtl_cli.runs.latest import held, move_latest
from dmtl_cli.runs.manifest import MANIFEST, Manifest, verify
from dmtl_cli.runs.progress import RunLog
from dmtl_cli.runs.ranks import ALONE, Ranks
from dmtl_cli.runs.recipe import Recipe
from dmtl_cli.runs.workspace import Workspace

Parent = tuple[Path, Manifest]
_LIBRARIES = ("torch", "numpy", "polars", "pyarrow", "onnx", "onnxruntime", "safetensors")


@functools.cache
def _versions() -> dict[str, str]:
    """Those of the libraries whose numbers may differ from version to version."""
    return {name: importlib.metadata.version(name) for name in _LIBRARIES}


def distinct(parents: Iterable[Parent]) -> list[Parent]:
    """Each published run once, in the order given."""
    return list({path: (path, manifest) for path, manifest in parents}.values())


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
    pinned: str | None = None
    """of an export that is not served, as LATEST is pinned: the run that is"""

    def to_dict(self) -> dict[str, Any]:
        """Without `pinned` where it is served."""
        shown = dataclasses.asdict(self)
        return shown if self.pinned else {name: value for name, value in shown.items() if name != "pinned"}


@dataclass(frozen=True)
class Draft:
    """What a stage reports about the run it has written."""

    rows: dict[str, int]
    metrics: dict[str, float]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)
    measures: list[Measure] = dataclasses.field(default_factory=list)
    """what is judged before it is published (`runs/gates.py`)"""
    warnings: list[str] = dataclasses.field(default_factory=list)
    """doubts about what was made, a line each with what to do: `facts.warnings` of the manifest, where there are any"""


Work = Callable[[Publication], Draft]


@dataclass(frozen=True)
class Run:
    """One command over one config: where its stages find their parents and publish their results."""

    config: Config
    ws: Workspace
    log: RunLog
    device: torch.device
    ranks: Ranks = ALONE
    frozen: bool = False
    """whether to publish nothing, only find what is published"""
    forced: str | None = None
    """the reason to publish in spite of quality gates"""
    done: list[Result] = dataclasses.field(default_factory=list)
    """every result so far, so that a later failure does not hide it"""

    @staticmethod
    def start(config: Config, log: RunLog, ranks: Ranks = ALONE, forced: str | None = None) -> Run:
        """Sets the threads of torch and numpy and torch's determinism for this process. Raises UserError 69: the device
        is not there; 78 an index is asked for that no library builds."""
        config.export.refuse_without_faiss()
        name = config.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        elif name == "cuda" and not torch.cuda.is_available():
            raise UserError("device: cuda, but torch sees no GPU", "use --device cpu or auto", Exit.NO_DEVICE)
        torch.set_num_threads(config.threads)
        threadpool_limits(config.threads, user_api="blas")  # numpy's sums differ by how many there are
        keep_freed_memory()
        keep_few_products()
        make_deterministic(name)
        device = torch.device(name, ranks.local) if name == "cuda" and ranks.size > 1 else torch.device(name)
        if device.index is not None:
            torch.cuda.set_device(device)
        return Run(config, Workspace(Path(config.workspace)), log, device, ranks, forced=forced)

    def rng(self, *words: object) -> np.random.Generator:
        """A generator for one purpose: the same seed and words give the same numbers, whatever else is drawn."""
        return np.random.default_rng(self._seed(words))

    def seed_torch(self, *words: object) -> None:
        torch.manual_seed(self._seed(words))

    def _seed(self, words: Iterable[object]) -> int:
        text = "|".join(map(str, (self.config.seed, *words)))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1

    def versions(self) -> dict[str, str]:
        return {
            "dmtl": __version__,
            "python": ".".join(platform.python_version_tuple()[:2]),
            **_versions(),
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
            UserError: 66 when there is none, 65 when it is damaged, or its days are not cut as the config says.
        """
        path = self.ws.current(stage, day, sub)
        if run_id is not None:
            path = self.ws.stage_dir(stage, day, sub) / f"run-{run_id}"
        if path is None or not path.is_dir():
            where = self.ws.stage_dir(stage, day, sub)
            raise UserError(f"no published {stage} of day {day} in {where}", hint, Exit.NO_INPUT)
        manifest = verify(path)
        if manifest.stage != stage or manifest.day != day:
            raise UserError(f"{path}: expected {stage} of {day}, found {manifest.stage} of {manifest.day}")
        check_facts(path / MANIFEST, stage, manifest.facts)
        refuse_other_days(path, manifest, self.sections()["data"])
        return path, manifest

    def newest(self, stage: str, before: dt.date) -> Parent | None:
        day = self.ws.newest(stage, before)
        return None if day is None else self.parent(stage, day)

    # -- publishing ----------------------------------------------------------------------------------------------------

    def sections(self, *names: str) -> dict[str, Any]:
        """The parts of the config that a stage depends on, less locations; `plain_autograd` where it is true,
        `evaluate.topk` where it is not the default, and what only an export depends on where that is one of them, so
        that a config without them has the key that it always had."""
        whole = self.config.model_dump(mode="json")
        whole["data"] = {k: v for k, v in whole["data"].items() if k not in ("root", "truth")}
        if self.config.evaluate.topk == TOPK:
            del whole["evaluate"]["topk"]
        if "export" not in names:
            del whole["student"]["exposure"]["popularity"]
        plain = {"plain_autograd": True} if self.config.plain_autograd else {}
        return {k: v for k, v in whole.items() if k in {"data", "features", "labels", *names}} | plain

    def publish(
        self,
        stage: str,
        day: dt.date,
        config: dict[str, Any],
        inputs: list[dict[str, Any]],
        parents: list[Parent],
        work: Work,
        *,
        sub: str | None = None,
        latest: bool = False,
        current: bool = True,
        shared: bool = True,
    ) -> Result:
        """Runs `work` and publishes what it wrote, unless a run of the same key is published already.

        Args:
            latest: whether LATEST names it.
            current: whether it is what other stages read of the day; else it is served alone.
            shared: whether all ranks work, of which rank 0 writes what is published; else rank 0 works alone.

        Raises UserError: as `work` does; where this run is frozen 65 there is none of that key, 80 it was refused.
        """
        seed, threads, named = self.config.seed, self.config.threads, [m.as_parent() for _, m in parents]
        recipe = Recipe(stage, day, config, seed, self.versions(), threads, inputs, named)
        if found := self.ranks.on_first(lambda: self._published(recipe, sub, latest, current)):
            return self._result(*found, seconds=None)
        start = time.perf_counter()
        kept = self._refusal_kept(stage, day, sub) if current else nullcontext()  # of the day's own alone
        with self._publication(recipe, sub, latest, current) as publication, kept:
            draft = work(publication) if shared else self.ranks.on_first(lambda: work(publication))
            path, manifest = self.ranks.on_first(lambda: self._seal(publication, recipe, draft))
        if current:
            self._accept(stage, day, sub)
        return self._result(path, manifest, seconds=time.perf_counter() - start)

    def _published(self, recipe: Recipe, sub: str | None, latest: bool, current: bool) -> Parent | None:
        """The published run of a recipe, to which LATEST is moved; None where it must be made. Raises UserError where a
        frozen run has none."""
        found = up_to_date(self.ws, recipe.stage, recipe.day, sub, recipe.key, current=current)
        if found and latest and not self.frozen and there(self.ws.latest) != found[0]:
            move_latest(self.ws, found[0])
        if found and (not latest or there(self.ws.latest)):  # publishing repairs a LATEST that names no export
            if not self.frozen:
                self.ws.clear_checkpoints(recipe.stage, recipe.day)
                if current:
                    self._accept(recipe.stage, recipe.day, sub)
            return found
        if not self.frozen:
            return None
        refusal = self.ws.refusal_path(recipe.stage, recipe.day, sub)
        if refusal.exists():
            raise UserError(refusal.read_text().partition("\n")[0].removeprefix("dmtl: error: "), code=Exit.REFUSED)
        raise why_not_there(self.ws, recipe, sub)

    @contextmanager
    def _publication(self, recipe: Recipe, sub: str | None, latest: bool, current: bool) -> Iterator[Publication]:
        """The folder that rank 0 will publish, with a scratch folder for each rank."""
        with ExitStack() as stack:

            def begin() -> Publication:
                made = publish(self.ws, recipe.stage, recipe.day, sub, latest=latest, current=current, key=recipe.key)
                return stack.enter_context(made)

            shared = self.ranks.on_first(begin)
            if self.ranks.size > 1:
                shared = dataclasses.replace(shared, tmp=shared.tmp / f"rank-{self.ranks.rank}")
                shared.tmp.mkdir()
            yield shared

    @contextmanager
    def _refusal_kept(self, stage: str, day: dt.date, sub: str | None) -> Iterator[None]:
        """Stores why a run is refused, for `status`; a rejected/ that cannot be written must not hide the reason."""
        try:
            yield
        except UserError as e:
            if e.code == Exit.REFUSED and self.ranks.first:
                refusal = self.ws.refusal_path(stage, day, sub)
                with suppress(OSError):
                    refusal.parent.mkdir(parents=True, exist_ok=True)
                    refusal.write_text("\n".join([e.line(), *e.others]) + "\n")
            raise

    def _accept(self, stage: str, day: dt.date, sub: str | None) -> None:
        """Removes why a stage refused a day before, now that it is published."""
        with suppress(OSError):  # what is published is not undone by a rejected/ that cannot be written
            self.ws.refusal_path(stage, day, sub).unlink(missing_ok=True)

    def _seal(self, publication: Publication, recipe: Recipe, draft: Draft) -> Parent:
        """Publishes what was written, or moves it to rejected/ where gates refuse it. Raises UserError 80 then."""
        config = self.config.gates
        days = config.days if draft.measures and config.quality else 0
        gates = judge(draft.measures, config, past(self.ws, recipe.stage, recipe.day, days, publication.sub))
        failed = [gate for gate in gates if not gate.passed]
        failed.sort(key=lambda gate: (not gate.integrity, -gate.beyond))  # the first line is what most people read
        fields = self._fields(recipe, draft, gates)
        if failed and (self.forced is None or failed[0].integrity):
            error = refusal(recipe.stage, recipe.day, failed)
            publication.reject(fields, [error.line(), *error.others])
            raise error
        if failed:
            fields["facts"] = fields["facts"] | {"forced": self.forced}
        return publication.seal(fields)

    def _fields(self, recipe: Recipe, draft: Draft, gates: list[Gate]) -> dict[str, Any]:
        """What `Publication.seal` takes."""
        inexact = ["on CUDA the same key gives results equal within rounding, not the same bytes"]
        warnings = inexact if self.device.type == "cuda" else []
        facts = draft.facts | ({"warnings": draft.warnings} if draft.warnings else {})
        facts |= {} if self.config.gates.quality else {"ungated": True}
        made = {"rows": draft.rows, "metrics": draft.metrics, "facts": facts}
        return recipe.fields() | made | {"gates": [gate.to_json() for gate in gates], "key_warnings": warnings}

    def found(self, published: Parent) -> Result:
        """The result of a run that is taken as it was published."""
        return self._result(*published, seconds=None)

    def _result(self, path: Path, m: Manifest, *, seconds: float | None) -> Result:
        """Tells the log and the user of a run that took `seconds` to make, or (None) was published before."""
        up_to_date = seconds is None
        served = held(self.ws) if m.stage == "export" else None
        pinned = str(served) if served and served != path else None
        result = Result(m.stage, str(m.day), m.key, m.run_id, str(path), m.rows, m.metrics, m.gates, up_to_date, pinned)
        self.log.published(seconds, **result.to_dict())
        for hears in self.log.listeners:
            hears(path, m, seconds)
        if pinned:
            self.log.say(f"{m.stage} {m.day}: not served, LATEST is pinned to {pinned} until dmtl rollback --unpin")
        told = not (up_to_date and self.log.place)  # a comparison goes through many days that others made
        for warning in m.facts.get("warnings", ()) if told else ():
            self.log.say(f"{m.stage} {m.day}: warning: {warning}")
        self.done.append(result)
        return result
