"""Numbers and pictures of a run as the event files that TensorBoard shows, through tensorboardX.

Like metrics.jsonl they are never believed: a run that is continued writes them anew, in a file with
another name, as TensorBoard goes on from one to the next. So no step is there twice.
"""

import logging
import pathlib
import struct
import time
from collections.abc import Iterable
from typing import Any

import numpy as np
from absl import flags

from herjax.runtime import records
from herjax.tasks.palette import PALETTE

TENSORBOARD = flags.DEFINE_bool(
    "tensorboard",
    False,
    "Also write the numbers, and an adaptation's best pictures, as event files for TensorBoard;"
    " needs pip install 'herjax[tensorboard]'.",
)
NAME = "events.out.tfevents.{:010d}.herjax"  # TensorBoard reads them in the order of their names
SIDE = 160  # pixels of a picture, at most, if its cells have more than one
RGB = np.frombuffer(bytes.fromhex("".join(PALETTE).replace("#", "")), np.uint8).reshape(-1, 3)

log = logging.getLogger(__name__)


def require_tensorboard() -> None:
    """ValueError if --tensorboard is given without what it needs."""
    if TENSORBOARD.value:
        try:
            import tensorboardX  # noqa: F401
        except ImportError:
            raise ValueError(
                "--tensorboard needs the package tensorboardX: pip install 'herjax[tensorboard]'"
            ) from None


class EventFile:
    """Of one member, or of a pretraining; what a full disk refuses comes with the next numbers."""

    def __init__(self, folder: pathlib.Path, step: str):
        """``step``: the name of the number that counts, ``"epoch"`` or ``"step"``."""
        self.folder, self.step = folder, step
        self._path: pathlib.Path | None = None
        self._pending = b""

    def rewrite(self, lines: list[dict[str, Any]], pictures: Iterable[np.ndarray] = ()) -> None:
        """Begin anew with what a checkpoint knows."""
        for path in self.folder.glob(NAME.replace("{:010d}", "*")):
            path.unlink()
        self._path, self._pending = None, b""
        self.append(lines, pictures)

    def append(self, lines: list[dict[str, Any]], pictures: Iterable[np.ndarray] = ()) -> None:
        """Add lines as of metrics.jsonl, and for each a picture int8 [R, C] if there are any."""
        waited = bool(self._pending)
        drawn: list[np.ndarray | None] = [*pictures] or [None] * len(lines)
        for line, picture in zip(lines, drawn, strict=True):
            self._pending += _records(line, self.step, picture)
        try:
            self.flush()
        except OSError as error:
            if not waited:
                log.warning("events in %s wait (%s)", self.folder, error.strerror or error)

    def flush(self) -> None:
        """Write what waits.

        Raises:
          OSError: if it has to wait on.
        """
        if not self._pending:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self._path or self.folder / NAME.format(int(time.time()))
        with path.open("ab", buffering=0) as file:
            begin = b"" if self._path else _version()
            records.write_whole(file, begin + self._pending, file.tell())
        self._path, self._pending = path, b""


def _version() -> bytes:
    """What every file begins with."""
    from tensorboardX.proto.event_pb2 import Event

    return _record(Event(wall_time=time.time(), file_version="brain.Event:2"))


def _records(line: dict[str, Any], step: str, picture: np.ndarray | None) -> bytes:
    """The events of one step."""
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import image

    numbers = {name: value for name, value in line.items() if name != step and value is not None}
    values = [Summary.Value(tag=name, simple_value=float(v)) for name, v in numbers.items()]
    summaries = [Summary(value=values)]
    if picture is not None:
        scale = max(SIDE // max(picture.shape), 1)
        pixels = RGB[picture].repeat(scale, axis=0).repeat(scale, axis=1)
        summaries.append(image("best_picture", pixels, dataformats="HWC"))
    events = (Event(wall_time=time.time(), step=line[step], summary=each) for each in summaries)
    return b"".join(map(_record, events))


def _record(event: Any) -> bytes:
    """A TFRecord: length and data, each with its checksum."""
    from tensorboardX.record_writer import masked_crc32c

    data = event.SerializeToString()
    length = struct.pack("<Q", len(data))
    checked = (length, struct.pack("<I", masked_crc32c(length)), data)
    return b"".join([*checked, struct.pack("<I", masked_crc32c(data))])
