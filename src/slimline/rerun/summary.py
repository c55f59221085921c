"""What a tick came to: for people as text, for programs as JSON, for whoever started it as exit code."""

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

UP_TO_DATE, PROMOTED, REPRODUCED = "up_to_date", "promoted", "reproduced"
KEPT, REFUSED, FAILED, BUSY, STOPPED = "kept", "refused", "failed", "busy", "stopped"

CODES = {UP_TO_DATE: 0, PROMOTED: 0, REPRODUCED: 0, KEPT: 1, REFUSED: 2, FAILED: 3, BUSY: 4}
"""Exit code of each outcome. `stopped` has that of its signal, 128 + number."""

WORDS = {
    UP_TO_DATE: "nothing to do",
    PROMOTED: "a new champion",
    REPRODUCED: "reproduced",
    KEPT: "the champion is kept",
    REFUSED: "refused",
    FAILED: "failed",
    BUSY: "another one is at it",
    STOPPED: "stopped, the next tick goes on",
}


@dataclass
class Summary:
    """One tick.

    Args:
        id: of what is told; a repeat has the same.
        outcome: one of the above. reason: why, a sentence.
        started: in UTC. seconds: it took.
        machine: its name, or its container's.
        commit: of the code, None outside of git.
        stages: those that were stale, each with what made it so.
        images: their number before and after, None where not known.
        scores: metrics/summary.json before and after.
        gates: each gate's name and whether it passed.
        version: of the registered model that this tick has judged.
        pushed: whether DVC's remote has what was made; None without a remote.
        warnings: what went wrong beside the pipeline and is tried again by the next tick.
        code: exit code.
    """

    machine: str
    workspace: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    seconds: float = 0.0
    outcome: str = FAILED
    reason: str = ""
    code: int = CODES[FAILED]
    commit: str | None = None
    stages: dict[str, list[str]] = field(default_factory=dict)
    images: tuple[int | None, int | None] = (None, None)
    scores: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    gates: dict[str, bool] = field(default_factory=dict)
    version: int | None = None
    pushed: bool | None = None
    warnings: list[str] = field(default_factory=list)

    def came_to(self, outcome: str, reason: str = "", code: int | None = None) -> "Summary":
        """This one, with its outcome; `code` where that says too little."""
        self.outcome, self.reason, self.code = outcome, " ".join(reason.split()), CODES[outcome] if code is None else code
        return self

    def headline(self) -> str:
        """The outcome in one line."""
        return f"slimline rerun: {WORDS[self.outcome]}{f': {self.reason}' if self.reason else ''}"

    def text(self) -> str:
        """All of it, a line a fact, those alone that say something."""
        lines = [self.headline(), *(f"  {about:<9}{fact}" for about, fact in self._facts())]
        return "\n".join(lines)

    def _facts(self) -> list[tuple[str, str]]:
        facts = [("when", f"{self.started}, {self.seconds:.1f} s, on {self.machine} in {self.workspace}")]
        before, after = self.images
        if after is not None:
            facts.append(("images", f"{before:,} → {after:,}" if before not in (None, after) else f"{after:,}"))
        facts += [("stale", f"{stage}{f': {reasons[0]}' if reasons else ''}") for stage, reasons in self.stages.items()]
        old, new = self.scores
        facts += [("score", f"{key} {old[key]} → {value}" if old.get(key, value) != value else f"{key} {value}") for key, value in new.items()]
        if self.gates:
            failed = [name for name, passed in self.gates.items() if not passed]
            facts.append(("gates", f"failed: {', '.join(failed)}" if failed else f"all {len(self.gates)} passed"))
        if self.version is not None:
            facts.append(("version", f"{self.version}"))
        if self.pushed is not None:
            facts.append(("cache", "pushed to the remote" if self.pushed else "not pushed yet"))
        return facts + [("warning", one) for one in self.warnings]

    def record(self) -> dict[str, Any]:
        """All of it as JSON can hold it."""
        return asdict(self)
