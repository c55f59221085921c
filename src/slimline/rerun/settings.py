"""rerun.yaml: what a tick does around the pipeline. As strict as params.yaml; no stage depends on it, and without the file all has its default.

Secrets do not stand there. They are environment variables, or files that variables name by a `_FILE` at their end, as secrets of
containers are: SLIMLINE_WEBHOOK_URL=… or SLIMLINE_WEBHOOK_URL_FILE=/run/secrets/webhook.
"""

import json
import os
from io import StringIO
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from slimline.errors import SlimlineError
from slimline.params.base import Block
from slimline.registry import describe

FILE = "rerun.yaml"
"""In the workspace. No name in `paths.py`: every stage depends on that, and on this none."""

WEBHOOK, PASSWORD = "SLIMLINE_WEBHOOK_URL", "SLIMLINE_SMTP_PASSWORD"
"""Secrets: the address that is told of ticks, which lets whoever knows it write there, and the password of `notify.mail.user`."""

Told = Literal["promoted", "kept", "reproduced", "refused", "failed", "stopped", "up_to_date"]


Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]
"""Of mail."""


class Code(Block):
    """`pull`: bring the branch up to date by `git pull --ff-only` before all else."""

    pull: bool = False


class Data(Block):
    """Where new data come from.

    Args:
        update: `.dvc` files of imported data, brought up to date by `dvc update`, which `dvc repro` never does.
        quiet_seconds: new images are taken in when nothing has been written for so long beside them: a copy may be under way.
        patience_seconds: after so long a wait they are left to the next tick.
    """

    update: tuple[str, ...] = ()
    quiet_seconds: float = Field(default=5.0, ge=0.0, le=3600.0)
    patience_seconds: float = Field(default=600.0, ge=0.0)


class Mail(Block):
    """A mailbox that is told of ticks, by SMTP.

    Args:
        security: `starttls` (port 587), `tls` from the first byte (465), or `none`.
        user: to log in as, with the password in SLIMLINE_SMTP_PASSWORD; null: no login.
    """

    host: str = Field(min_length=1)
    port: int = Field(default=587, ge=1, le=65535)
    security: Literal["starttls", "tls", "none"] = "starttls"
    user: str | None = None
    sender: Address
    to: tuple[Address, ...] = Field(min_length=1)


class Notify(Block):
    """Whom to tell of which outcomes. A webhook is told where SLIMLINE_WEBHOOK_URL names one."""

    outcomes: tuple[Told, ...] = ("promoted", "kept", "reproduced", "refused", "failed")
    mail: Mail | None = None


class Rerun(Block):
    """All of rerun.yaml.

    Args:
        promote: hold a new model against the champion, as `slimline register` does; false: it is made and judged alone.
        push: send what a tick made to DVC's default remote, where one is set.
        least_free_gb: a tick that finds less room on the workspace's disk refuses to start.
    """

    code: Code = Code()
    data: Data = Data()
    promote: bool = True
    push: bool = True
    notify: Notify = Notify()
    least_free_gb: float = Field(default=1.0, ge=0.0)


def load(path: Path) -> Rerun:
    """Read and check rerun.yaml; the defaults where there is none.

    Raises:
        SlimlineError: no YAML, or a value that cannot be, with its full key, what was found and what is allowed.
    """
    try:
        values = YAML(typ="safe", pure=True).load(StringIO(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return Rerun()
    except (YAMLError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise SlimlineError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    try:
        return Rerun.model_validate_json(json.dumps({} if values is None else values, default=str))
    except ValidationError as error:
        where, reason = describe(error, Rerun)
        raise SlimlineError(f"{path}: {where}{': ' if where else ''}{reason}") from error
    except (TypeError, RecursionError, ValueError) as error:  # a key that is no text, a value that holds itself
        raise SlimlineError(f"{path}: {' '.join(str(error).split())}; write plain values") from error


def secret(name: str) -> str | None:
    """The secret `name`: that environment variable, or the content of the file that it names with `_FILE` at its end; None without both.

    Raises:
        SlimlineError: there is no such file, or nothing in it.
    """
    if value := os.environ.get(name):
        return value
    if not (file := os.environ.get(f"{name}_FILE")):
        return None
    try:
        value = Path(file).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SlimlineError(f"{name}_FILE: {file} cannot be read ({error}); give the container that secret, or unset it") from error
    if not value:
        raise SlimlineError(f"{name}_FILE: {file} is empty; put the secret there, or unset it")
    return value
