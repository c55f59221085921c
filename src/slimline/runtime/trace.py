"""`slimline trace`: from a file, md5, run, alias or revision to the chain that it belongs to."""

import re
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from slimline.errors import SlimlineError
from slimline.export.packed import provenance_of
from slimline.params.file import BLOCKS, load, plain
from slimline.paths import Paths, repository_root
from slimline.runtime.recorded import Recorded, recorded
from slimline.tracking import flattened
from slimline.tracking.journal import md5
from slimline.tracking.lineage import ROLES, Archive, Link

SHIPPED = Path(__file__).parents[1] / "params" / "shipped.yaml"
"""params.yaml as it comes with slimline, which the user's is held against."""

DIGEST = re.compile(r"[0-9a-f]{32}(\.dir)?")


@dataclass(frozen=True)
class Chain:
    """What is known of a thing.

    Args:
        what: it is, in words.
        links: the stages, the first first.
        missing: what the stores at hand do not know, a line each.
    """

    what: str
    links: tuple[Link, ...]
    missing: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def trace(thing: str, paths: Paths, archive: Archive) -> Chain:
    """The chain of `thing`: a file, its md5, an MLflow run, an alias of a registered model, or a git revision, tried in this order.

    Raises:
        SlimlineError: nothing of that kind is known here.
    """
    missing: list[str] = []
    stages: list[Recorded] = []
    try:
        _, stages = recorded(paths)
    except SlimlineError as error:  # the store alone may know enough
        missing.append(str(error))
    known = {digest: one.fingerprint for one in stages for digest in one.outputs.values()}
    if Path(thing).is_file():
        what, run, told = _of_file(Path(thing), archive)
        missing += told
    elif DIGEST.fullmatch(thing):
        run = archive.by_id(thing)
        what = f"MLflow run {thing}" if run else f"md5 {thing}"
        run = run or archive.by_md5(thing) or (archive.by_fingerprint(known[thing]) if thing in known else None)
        if run is None:
            raise SlimlineError(f"{thing}: no run at {archive.uri} has this number, or made a file with this md5; slimline sync links runs and files")
    elif run := archive.by_alias(thing):
        what = f"registered model {thing}"
    elif commit := _commit(thing, paths):
        return _of_revision(thing, commit, paths, archive)
    else:
        raise SlimlineError(
            f"{thing}: no file, md5, MLflow run, alias of a registered model or git revision that is known here (MLflow at {archive.uri})"
        )
    if run is None:
        return Chain(what, (), tuple(missing))
    before, unknown = archive.before(run, known)
    after = [one for one in archive.after(run) if one.data.tags["slimline.stage"] not in {other.data.tags["slimline.stage"] for other in before}]
    return Chain(what, tuple(_without_defaults(archive.link(one)) for one in (*before, *after)), (*missing, *unknown))


def _of_file(file: Path, archive: Archive) -> tuple[str, Any, list[str]]:
    digest = md5(file)
    what, missing = f"{file}, md5 {digest}", []
    run = archive.by_md5(digest)
    if file.suffix == ".slim":
        made_of = provenance_of(file)
        what += f", provenance {made_of or 'none'}"
        by_provenance = archive.by_fingerprint(made_of) if made_of else None
        if run is None and by_provenance is not None:
            missing.append(
                f"{file} is not the file that run {by_provenance.info.run_id} made of the same, whose md5 is another: changed, or made elsewhere"
            )
        run = run or by_provenance
    if run is None:
        missing.append(f"no run at {archive.uri} made a file with md5 {digest}{' or of its provenance' if file.suffix == '.slim' else ''}")
    return what, run, missing


def _of_revision(thing: str, commit: str, paths: Paths, archive: Archive) -> Chain:
    _, stages = recorded(paths, commit)
    links, missing = [], []
    for one in sorted(stages, key=lambda stage: list(ROLES).index(stage.stage)):
        run = archive.by_fingerprint(one.fingerprint)
        if run is None:
            missing.append(f"no run at {archive.uri} is of {one.stage} as dvc.lock has it at {commit[:12]}")
            links.append(Link(ROLES[one.stage], one.stage, fingerprint=one.fingerprint))
        else:
            links.append(_without_defaults(archive.link(run)))
    if not stages:
        missing.append(f"dvc.lock records no stage at {commit[:12]}")
    return Chain(f"git revision {thing}, commit {commit}", tuple(links), tuple(missing))


def _commit(thing: str, paths: Paths) -> str | None:
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{thing}^{{commit}}"]
    try:
        done = subprocess.run(command, cwd=repository_root(paths.root), capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _without_defaults(link: Link) -> Link:
    """`link` with those parameters alone that differ from what slimline comes with."""
    return replace(link, params={name: value for name, value in link.params.items() if _defaults().get(name) != value})


@cache
def _defaults() -> dict[str, str]:
    """Every parameter as slimline comes with it, by dotted name."""
    shipped = load(SHIPPED)
    blocks = {name: plain(shipped.blocks[name]) for name in BLOCKS}
    return {name: str(value) for name, value in flattened({"seed": shipped.seed, **blocks}).items()}


def told(chain: Chain) -> str:
    """`chain` for people to read."""
    lines = [chain.what]
    for one in chain.links:
        state = f"run {one.run}, {one.started}" if one.run else "no run"
        code = f"commit {one.commit[:12]}{f' with changes {one.changes[:12]}' if one.changes else ''}" if one.commit else "no commit"
        lines.append(f"{one.role:<13} {state}, {code}{f', superseded by {one.superseded_by}' if one.superseded_by else ''}")
        details = [f"data {one.data}"] if one.role == "data" and one.data else []
        details += [_numbers(one.scores)] if one.scores else []
        details += [f"{name} = {value} (shipped: {_defaults().get(name, 'none')})" for name, value in one.params.items()]
        details += [_version(version) for version in one.registered]
        details += [one.url] if one.url else []
        lines += [f"    {detail}" for detail in details]
    return "\n".join([*lines, *(f"missing: {line}" for line in chain.missing)])


def _numbers(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" if "accuracy" in name or "ece" in name else f"{name} {value:,.0f}" for name, value in scores.items())


def _version(version: Mapping[str, Any]) -> str:
    held = f" ({', '.join(version['aliases'])})" if version["aliases"] else ""
    moves = [value for name, value in sorted(version["tags"].items()) if name.startswith("slimline.move.")]
    return "; ".join([f"registry: {version['model']} version {version['version']}{held}", *moves])
