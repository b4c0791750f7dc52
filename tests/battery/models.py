"""Model folders that are damaged, or made up with a right sha256."""

import functools
import hashlib
import json
import os
import pathlib
import struct

import numpy as np
import safetensors.numpy
from flax import traverse_util

import herjax
from herjax.decoder.weights import parameter_shapes
from tests.battery import Case, folder
from tests.battery.door import refused

AREA = "models"
CONFIG = herjax.ModelConfig(width=8, layers=2, program_layers=1, heads=2, max_side=6)
SHAPE = {
    "width": 8,
    "layers": 2,
    "program_layers": 1,
    "heads": 2,
    "mlp_ratio": 4,
    "max_side": 6,
    "ops": CONFIG.ops,
    "dtype": "float32",
}


@functools.cache
def tensors():
    rng = np.random.default_rng(0)
    return {
        name: rng.normal(size=leaf.shape).astype(np.float32)
        for name, leaf in parameter_shapes(CONFIG).items()
    }


def write(place, shape=None, data=None, **info):
    """A folder of a model, its sha256 right."""
    shape = SHAPE if shape is None else shape
    data = safetensors.numpy.save(tensors()) if data is None else data
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode() + data).hexdigest()
    (place / "model.safetensors").write_bytes(data)
    (place / "config.json").write_text(json.dumps({"model": shape, "sha256": digest, **info}))


def case(name, make, message, slow=False):
    """``make(place)`` writes the folder, which is refused with its name."""

    def check():
        with folder() as place:
            make(place)
            refused(lambda: herjax.load_pretrained(place), message, herjax.CheckpointError)
            refused(lambda: herjax.load_pretrained(place), str(place), herjax.CheckpointError)

    return Case(name, AREA, check, slow)


def shaped(message, **changes):
    return case(f"shape: {changes}"[:60], lambda place: write(place, {**SHAPE, **changes}), message)


def changed(name, change, message):
    def make(place):
        made = {name: leaf.copy() for name, leaf in tensors().items()}
        write(place, data=safetensors.numpy.save(change(made) or made))

    return case(name, make, message)


def raw(name, data, message="damaged model"):
    return case(f"weights: {name}", lambda place: write(place, data=data), message)


def about(name, text, message="damaged model"):
    def make(place):
        write(place)
        content = text if isinstance(text, bytes) else text.encode()
        (place / "config.json").write_bytes(content)

    return case(f"config.json: {name}", make, message)


def special(file, name, make, message):
    def broken(place):
        write(place)
        (place / file).unlink()
        make(place / file)

    return case(f"{file} is {name}", broken, message)


def _header(length, text=b"{}"):
    return struct.pack("<Q", length) + text


def _flip(position):
    def make(place):
        write(place)
        data = bytearray((place / "model.safetensors").read_bytes())
        data[position] ^= 1
        (place / "model.safetensors").write_bytes(data)

    return case(f"a bit flipped at {position}", make, "has another sha256")


def _fill(name, value):
    def change(made):
        made[name].flat[0] = value

    return changed(f"{name} holds {value}", change, f"{name} holds numbers that are not finite")


def _renamed(made):
    made["row_embeded/embedding"] = made.pop("row_embed/embedding")


def _without(made):
    del made["op_head/kernel"]


def _sound():
    with folder() as place:
        write(place, note=[1])
        loaded = herjax.load_pretrained(place)
        assert loaded.model.config == CONFIG
        flat = traverse_util.flatten_dict(loaded.params["params"], sep="/")
        assert all(np.array_equal(flat[name], leaf) for name, leaf in tensors().items())


def _name(name, message):
    call = lambda: herjax.load_pretrained(name)  # noqa: E731
    return Case(f"name {name[:30]!r}", AREA, lambda: refused(call, message, herjax.CheckpointError))


def _sparse(path):
    path.touch()
    os.truncate(path, 10**12)


def _zero(path):
    path.symlink_to("/dev/zero")


SPECIAL = [
    ("a folder", pathlib.Path.mkdir, "is a folder"),
    ("a pipe", os.mkfifo, "is not a regular file"),
    ("/dev/zero", _zero, "is not a regular file"),
    ("a sparse file of 1 TB", _sparse, "is larger than"),
    ("a link to itself", lambda path: path.symlink_to(path), "damaged model"),
    ("missing", lambda path: None, "no model"),
]
CASES = [
    Case("a sound one", AREA, _sound),
    *(special(f, *rest) for f in ("config.json", "model.safetensors") for rest in SPECIAL),
    *map(_flip, (0, 3, 8, 20, -1, -100)),
    shaped("layers must be at most 512", layers=1_000_000),
    shaped("layers must be at least 1", layers=0),
    shaped("layers must be an integer", layers="2"),
    shaped("layers must be an integer", layers=2.0),
    shaped("layers must be an integer", layers=None),
    shaped("blocks_2/", layers=3),
    shaped("blocks_2/attention_norm/scale is missing", layers=512),
    shaped("width must be at most", width=10**9),
    shaped("width must be at least 1", width=-8),
    shaped("blocks_0/attention_norm/scale is float32[8], must be float32[16]", width=16),
    shaped("col_embed/embedding is float32[6, 8], must be float32[7, 8]", max_side=7),
    shaped("max_side must be at most 128", max_side=10**6),
    shaped("heads must be at most", heads=10**6),
    shaped("is not a multiple of heads 3", heads=3),
    shaped("mlp_ratio must be at most 64", mlp_ratio=10**6),
    shaped("must be float32", mlp_ratio=2),
    shaped("knows 1000000 drawing calls", ops=10**6),
    shaped("ops must be at least 5", ops=1),
    shaped("program_layers 3 must be", program_layers=3),
    shaped("dtype must be", dtype="float64"),
    shaped("dtype must be", dtype="x" * 10**5),
    shaped("has no field 'depth'", depth=3),
    shaped("has no field", **{"x" * 1000: 3}),
    raw("none", b""),
    raw("seven bytes", b"1234567"),
    raw("a header of 2^60", _header(2**60)),
    raw("a header of 2^64 - 1", _header(2**64 - 1)),
    raw("a header that is longer than the file", _header(100)),
    raw("an empty header", _header(2), "is missing"),
    raw("a header that is no JSON", _header(2, b"{[")),
    raw("a header that is a list", _header(2, b"[]")),
    raw("a nested header", _header(10_000, b"[" * 10_000)),
    raw("text", b"hello, this is no model at all"),
    raw("a pickle", b"\x80\x04\x95cos\nsystem\n(S'true'\ntR."),
    raw(
        "offsets outside",
        _header(63, b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36000000000]}}'[:63]),
    ),
    raw("a megabyte too many", bytes(1_100_000), "larger than"),
    changed("a tensor missing", _without, "op_head/kernel is missing"),
    changed("a tensor more", lambda m: m.update(x=np.zeros(3, np.float32)), "'x' is no parameter"),
    changed("a tensor renamed", _renamed, "row_embed/embedding is missing"),
    changed("another block", lambda m: m.update({"blocks_9/x": np.zeros(1)}), "is no parameter"),
    changed("a tensor turned", lambda m: m.update({"up": 0 * m["op_head/kernel"]}), "'up' is no"),
    changed(
        "a tensor of another shape",
        lambda m: m.update({"op_head/kernel": np.zeros((8, 7), np.float32)}),
        "op_head/kernel is float32[8, 7], must be float32[8, 6]",
    ),
    changed(
        "float64",
        lambda m: m.update({"op_head/kernel": np.zeros((8, 6))}),
        "op_head/kernel is float64[8, 6], must be float32[8, 6]",
    ),
    changed(
        "integers",
        lambda m: m.update({"op_head/kernel": np.zeros((8, 6), np.int32)}),
        "op_head/kernel is int32[8, 6]",
    ),
    changed(
        "float16",
        lambda m: m.update({"op_head/kernel": np.zeros((8, 6), np.float16)}),
        "op_head/kernel is float16[8, 6]",
    ),
    _fill("op_head/kernel", np.nan),
    _fill("blocks_1/up/kernel", np.inf),
    _fill("final_norm/scale", -np.inf),
    about("empty", ""),
    about("cut off", '{"model": {'),
    about("a list", "[]", "does not tell the shape"),
    about("null", "null", "does not tell the shape"),
    about("a number", "3", "does not tell the shape"),
    about("no model", '{"sha256": "x"}', "does not tell the shape"),
    about("a model of null", '{"model": null}', "does not tell the shape"),
    about("a model that is a list", '{"model": [1]}', "does not tell the shape"),
    about("no sha256", json.dumps({"model": SHAPE}), "has another sha256"),
    about("a sha256 of null", json.dumps({"model": SHAPE, "sha256": None}), "another sha256"),
    about("another sha256", json.dumps({"model": SHAPE, "sha256": "0" * 64}), "another sha256"),
    about("nested 10^5 deep", "[" * 10**5, "nested too deep"),
    about("not UTF-8", b'{"\xff": 1}'),
    about("two megabytes", " " * 2_000_000, "larger than 1 MB"),
    _name("bse", "(did you mean 'base'?)"),
    _name("base_20", "(did you mean 'base-20'?)"),
    _name("Base", "(did you mean 'base'?)"),
    _name("", "no model ''"),
    _name("x" * 5000, ""),
    _name("nowhere/model", "no model 'nowhere/model': give one of"),
    _name(__file__, "is a file: give the folder"),
    _name("/", "no model '/'"),
    _name("a\0b", "null"),
]
