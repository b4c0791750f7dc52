"""What a compiled program does, told by its text: who speaks with whom, and with the host.

Each instruction counts once, whatever loop it is in.
"""

import math
import re

COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)
_COLLECTIVE = re.compile(
    rf"^[^=\n]*= (.*?) ({'|'.join(COLLECTIVES)})(-start)?\((.*)$", re.MULTILINE
)
_CHAIN = re.compile(r'chain_id="(\d+)"')  # the parts of one, which a TPU does beside other work
_ARRAY = re.compile(r"\b([a-z]+)(\d+)?\w*\[([\d,]*)\]")
_HOST = re.compile(
    r'custom_call_target="[^"]*callback[^"]*"|is_host_transfer=true| (?:infeed|outfeed)\('
)


def collectives(text: str) -> dict[str, dict[str, int]]:
    """How many there are of each kind, and bytes that one device gets of them.

    Args:
      text: of a compiled program, as from ``compiled.as_text()``.

    Returns:
      {"all-reduce": {"count": 2, "bytes": 1024}}, without the kinds that there are none of.
    """
    found: dict[str, dict[str, int]] = {}
    chains: set[str] = set()
    for shapes, kind, start, rest in _COLLECTIVE.findall(text):
        if chain := _CHAIN.search(rest):
            if chain[0] in chains:
                continue
            chains.add(chain[0])
        sizes = [_bytes(*array) for array in _ARRAY.findall(shapes)]
        if start and kind != "all-reduce":  # begun here, ended elsewhere: what goes in, then out
            arrays = [size for size in sizes if size > 4]  # the others are marks
            sizes = arrays[len(arrays) // 2 :]
        row = found.setdefault(kind, {"count": 0, "bytes": 0})
        row["count"] += 1
        row["bytes"] += sum(sizes)
    return found


def _bytes(kind: str, bits: str, sizes: str) -> int:
    count = math.prod(int(size) for size in sizes.split(",") if size)
    return count * max(int(bits or 8) // 8, 1)  # pred has no number


def host_calls(text: str) -> int:
    """How many instructions call the host, or wait for it to send or to receive."""
    return len(_HOST.findall(text))
