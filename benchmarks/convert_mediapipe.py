"""From MediaPipe's three .tflite files to the bundled weights; and LiteRT's own outputs, which the tests hold us to.

``python -m benchmarks.convert_mediapipe FOLDER`` reads ``face_mesh.tflite``, ``selfie_segmentation.tflite`` and
``blaze_face_short.tflite`` and writes ``stylegan_surv/data/*.safetensors``: the source's fp16 numbers, renamed and
laid out as torch has them. With ``--reference`` it writes ``tests/data/mediapipe/litert.npz`` instead: what LiteRT
gives for the pictures of ``tests/mediapipe_inputs.py``. Needs ``pip install ai-edge-litert`` (no dependency of the
package).
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

ROOT = Path(__file__).parents[1]
LICENCE = "Apache-2.0"
MESH_PACKAGE = "npm @mediapipe/face_mesh 0.4.1657299874"
MATTE_PACKAGE = "npm @mediapipe/selfie_segmentation 0.1.1675465747"

Names = Iterator[tuple[str, str]]  # a layer of the graph, a module of ours


@dataclass(frozen=True)
class Source:
    """One graph: where it comes from, what it is called here, what it takes and gives."""

    graph: str
    sha256: str
    file: str
    package: str
    takes: str
    gives: str


MESH = Source(
    "face_mesh.tflite",
    "c603fa6149219a3e9487dc9abd7a0c24474c77263273d24868378cdf40aa26d1",
    "face-mesh.safetensors",
    MESH_PACKAGE,
    "RGB [n, 3, 192, 192] in 0..1, a square upright crop 1.5 times as wide as the face",
    "points [n, 468, 3] in pixels of the crop; logit [n] of the face score",
)
MATTE = Source(
    "selfie_segmentation.tflite",
    "8d13b7fae74af625c641226813616a2117bd6bca19eb3b75574621fc08557f27",
    "person-matte.safetensors",
    MATTE_PACKAGE,
    "RGB [n, 3, 256, 256] in 0..1, head and shoulders",
    "probability of a person [n, 256, 256]",
)
SHORT_RANGE = Source(
    "blaze_face_short.tflite",
    "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
    "face-short-range.safetensors",
    MESH_PACKAGE,
    "RGB [n, 3, 128, 128] in -1..1",
    "numbers [n, 896, 16] (box and six points per anchor) in pixels; logits [n, 896]",
)


# ---- which layer is which module: the graphs number their layers in the order in which they were built ----


def mesh_names() -> Names:
    """Convolutions and PReLUs are numbered from 1; each residual block takes one of each."""
    yield "conv2d_1", "stem.0"
    yield "p_re_lu_1", "stem.1"
    blocks = [f"trunk.{k}" for k in range(14)] + [f"points.{k}" for k in range(3)]
    for number, block in enumerate(blocks, start=1):
        yield from _residual(block, f"depthwise_conv2d_{number}", f"conv2d_{number + 1}")
        yield f"p_re_lu_{number + 1}", f"{block}.activation"
    yield "conv2d_19", "points.3"
    yield "p_re_lu_19", "points.4"
    yield from _residual("points.5", "depthwise_conv2d_18", "conv2d_20")
    yield "p_re_lu_20", "points.5.activation"
    yield "conv2d_21", "points.6"
    yield from _residual("score.0", "depthwise_conv2d_23", "conv2d_28")
    yield "p_re_lu_26", "score.0.activation"
    yield "conv2d_29", "score.1"
    yield "p_re_lu_27", "score.2"
    yield from _residual("score.3", "depthwise_conv2d_24", "conv2d_30")
    yield "p_re_lu_28", "score.3.activation"
    yield "conv2d_31", "score.4"


def short_range_names() -> Names:
    """Convolutions are numbered from 0, the first one without a number."""
    yield "conv2d", "stem"
    blocks = [f"fine.{k}" for k in range(11)] + [f"coarse.{k}" for k in range(5)]
    for number, block in enumerate(blocks):
        yield from _residual(block, _numbered("depthwise_conv2d", number), f"conv2d_{number + 1}")
    for kind, ours in (("classificator", "scores"), ("regressor", "boxes")):
        yield f"{kind}_8", f"fine_{ours}"
        yield f"{kind}_16", f"coarse_{ours}"


def matte_names() -> Names:
    """Dense and depthwise convolutions are numbered from 0 each, in the order of the data's way."""
    encoder = [("to_64", True), ("to_32.0", False), ("to_32.1", False)]
    encoder += [(f"to_16.{k}", True) for k in range(5)]
    dense = ["stem"]
    for block, gated in encoder:
        dense += [f"{block}.expand", *(_gate(block) if gated else ()), f"{block}.project"]
    dense += ["context.local", "context.overall"]
    decoders = ["up_32", "up_64", "up_128"]
    for block in decoders:
        dense += [f"{block}.narrow", *_gate(block), f"{block}.mix"]
    depthwise = [f"{block}.depthwise" for block, _ in encoder] + [f"{block}.smooth" for block in decoders]
    for kind, modules in (("conv2d", dense), ("depthwise_conv2d", depthwise)):
        yield from ((_numbered(kind, number), module) for number, module in enumerate(modules))
    yield "segment", "segment"


def _residual(block: str, depthwise: str, pointwise: str) -> Names:
    yield depthwise, f"{block}.depthwise"
    yield pointwise, f"{block}.pointwise"


def _gate(block: str) -> tuple[str, str]:
    return f"{block}.gate.squeeze", f"{block}.gate.excite"


def _numbered(kind: str, number: int) -> str:
    return f"{kind}_{number}" if number else kind


NETWORKS = ((MESH, mesh_names), (MATTE, matte_names), (SHORT_RANGE, short_range_names))


# ---- reading and writing -----------------------------------------------------------------------------------


def constants(graph: bytes) -> dict[str, np.ndarray[Any, Any]]:
    """The graph's fp16 constants by name, such as ``conv2d_1/Kernel``."""
    from ai_edge_litert.schema_py_generated import Model, TensorType

    model = Model.GetRootAs(graph, 0)
    tensors = (model.Subgraphs(0).Tensors(k) for k in range(model.Subgraphs(0).TensorsLength()))
    found = {}
    for tensor in tensors:
        if tensor.Type() == TensorType.FLOAT16:
            numbers = model.Buffers(tensor.Buffer()).DataAsNumpy().view(np.float16)
            found[tensor.Name().decode()] = numbers.reshape(tensor.ShapeAsNumpy())
    return found


def renamed(found: dict[str, np.ndarray[Any, Any]], names: Names) -> dict[str, np.ndarray[Any, Any]]:
    """Constants under our names, kernels as torch has them; every constant is used exactly once."""
    state, left = {}, dict(found)
    for layer, module in names:
        if layer.startswith("p_re_lu"):
            state[f"{module}.weight"] = left.pop(f"{layer}/Alpha").ravel()
            continue
        kernel = left.pop(f"{layer}/Kernel")  # dense [out, h, w, in]; depthwise [1, h, w, channels]
        order = (3, 0, 1, 2) if layer.startswith("depthwise") or layer == "segment" else (0, 3, 1, 2)
        state[f"{module}.weight"] = np.ascontiguousarray(kernel.transpose(order))
        state[f"{module}.bias"] = left.pop(f"{layer}/Bias")
    if left:
        raise click.ClickException(f"constants without a place: {', '.join(sorted(left))}.")
    return state


def convert(folder: Path) -> None:
    """Write the three bundled files."""
    from stylegan_surv._files import write_arrays

    for source, names in NETWORKS:
        graph = (folder / source.graph).read_bytes()
        digest = hashlib.sha256(graph).hexdigest()
        if digest != source.sha256:
            raise click.ClickException(f"{source.graph} has SHA-256 {digest}; expected {source.sha256}.")
        card = {
            "name": Path(source.file).stem,
            "source": f"{source.graph} of {source.package}",
            "source_sha256": digest,
            "copyright": "The MediaPipe Authors (Google)",
            "licence": LICENCE,
            "changes": "weights renamed and transposed for torch; numbers unchanged (fp16)",
            "input": source.takes,
            "output": source.gives,
        }
        out = ROOT / "stylegan_surv/data" / source.file
        write_arrays(out, renamed(constants(graph), names()), {"card": json.dumps(card)})
        click.echo(f"{out}: {out.stat().st_size:,} bytes")


def reference(folder: Path) -> None:
    """Write LiteRT's outputs for the tests' pictures."""
    from ai_edge_litert.interpreter import Interpreter

    sys.path.insert(0, str(ROOT / "tests"))
    from mediapipe_inputs import REFERENCE, STORED, generated_faces, pictures

    faces = generated_faces()
    outputs: dict[str, np.ndarray[Any, Any]] = {"faces": faces}
    for source, side in ((MESH, 192), (MATTE, 256), (SHORT_RANGE, 128)):
        interpreter = Interpreter(str(folder / source.graph), num_threads=1)
        interpreter.allocate_tensors()
        batch = np.moveaxis(pictures(side, faces), 1, -1)
        results: list[list[np.ndarray[Any, Any]]] = []
        for picture in batch * 2 - 1 if source is SHORT_RANGE else batch:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], picture[None])
            interpreter.invoke()
            results.append(
                [interpreter.get_tensor(o["index"]).squeeze() for o in interpreter.get_output_details()]
            )
        for k, parts in enumerate(zip(*results)):
            name = f"{Path(source.file).stem}.{k}"
            outputs[name] = np.stack(parts).astype(np.float32)[STORED[name]]
    REFERENCE.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(REFERENCE, **outputs)  # type: ignore[arg-type]
    click.echo(f"{REFERENCE}: {REFERENCE.stat().st_size:,} bytes")


@click.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--reference", "as_reference", is_flag=True, help="Write LiteRT's outputs for the tests instead."
)
def main(folder: Path, as_reference: bool) -> None:
    """Convert the three graphs in FOLDER."""
    (reference if as_reference else convert)(folder)


if __name__ == "__main__":
    main()
