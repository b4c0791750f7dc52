"""What a run leaves behind, to compare runs by."""

import json
import re
import subprocess

from herjax.commands.results import SUMS
from tests.command_line import without_times

# Of a report.html: the last column of a population's, and what is told of the run.
SECONDS = re.compile(rb'<td class="n">[\d.]+(?=\n)|<dl id="facts">.*?</dl>', re.S)


def outcome(folder, pattern="**/*"):
    """What a run leaves behind that must not depend on its interruptions, by file name."""
    found = {}
    for path in sorted(folder.glob(pattern)):
        name = str(path.relative_to(folder))
        if not path.is_file() or name.startswith("checkpoints"):
            continue
        if path.name == SUMS:  # of files that hold seconds, too: they must fit them
            command = ["sha256sum", "--check", "--strict", "--quiet", SUMS]
            assert subprocess.run(command, cwd=path.parent).returncode == 0
            continue
        json_file = path.suffix in (".json", ".jsonl") and path.name != "run.json"
        if path.name == "config.json":
            found[name] = json.loads(path.read_text())
        else:
            found[name] = without_times(path) if json_file else SECONDS.sub(b"", path.read_bytes())
    return found
