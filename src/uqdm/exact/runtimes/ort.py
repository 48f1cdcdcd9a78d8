"""Exact networks on ONNX Runtime, on the CPU or by CUDA; a network becomes an ONNX graph in memory.
Knows nothing of pictures.

A session has no threads of its own: it computes on the thread that calls it, any number of them at
once. `workers.py` says why. By CUDA a convolution is a sum over one position, of values that slices
have laid side by side: no library has a transform for that. TF32 is off in each session, and
nothing else in the process is touched.
"""

import os
import re
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uqdm.errors import BackendError
from uqdm.exact.network import LIMIT, Convolution, Net, unit

OPSET, IR = 17, 8  # what ONNX Runtime reads since 1.14
QUIET = 3  # errors only
CUDA = "CUDAExecutionProvider"
TELEMETRY = "ORT_DISABLE_TELEMETRY"


def _without_telemetry() -> Any:
    """ONNX Runtime, imported. Since 1.31 it starts a thread that reports to its makers, unless a
    variable says no.

    Nothing here should report. And a forked child would wait for that thread for ever when it
    exits. The variable is as it was afterwards.
    """
    before = os.environ.get(TELEMETRY)
    os.environ[TELEMETRY] = "1"
    try:
        import onnxruntime
    finally:
        if before is None:
            del os.environ[TELEMETRY]
        else:
            os.environ[TELEMETRY] = before
    return onnxruntime


onnxruntime = _without_telemetry()
onnxruntime.set_default_logger_severity(QUIET)


def device(name: str) -> int:
    """The number of a CUDA device that works. Raises `BackendError`."""
    try:
        found = re.fullmatch(r"cuda(?::(\d+))?", name)
        if found is None or CUDA not in onnxruntime.get_available_providers():
            raise RuntimeError(f"this build has {', '.join(onnxruntime.get_available_providers())}")
        number = int(found[1] or 0)
        x, y = (helper.make_tensor_value_info(one, TensorProto.FLOAT, [1]) for one in "xy")
        nodes = [helper.make_node("Floor", ["x"], ["y"])]
        session(_model(helper.make_graph(nodes, "trial", [x], [y])), number).run(None, {"x": np.zeros(1, np.float32)})
    except Exception as error:  # ONNX Runtime raises what it likes
        said = str(error).splitlines()[0]
        raise BackendError(f"device {name!r} cannot be used by ONNX Runtime: {said}") from None
    return number


def session(model: onnx.ModelProto, cuda: int | None) -> Any:
    """On the CPU, or on a CUDA device. Raises what ONNX Runtime does, and `RuntimeError` where it would
    take the CPU in the device's place.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # A session would keep its own for ever, and a model has a session a pass: 0.6 GiB, and no
    # faster.
    options.enable_cpu_mem_arena = False
    options.log_severity_level = QUIET
    providers: list[Any] = ["CPUExecutionProvider"]
    if cuda is not None:
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        how = {"device_id": cuda, "use_tf32": 0, "cudnn_conv_algo_search": "DEFAULT"}  # the default one only multiplies
        providers = [(CUDA, {**how, "arena_extend_strategy": "kSameAsRequested"})]
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    if cuda is not None and session.get_providers()[0] != CUDA:
        raise RuntimeError("CUDA or cuDNN does not load")
    return session


class Runner:
    """An exact network: features (N, I, H, W), and what it joins (N, J, H, W), to its outputs
    (N, O, H, W).

    `cuda`: the device's number, None for the CPU. `unfolded`: convolutions of one position, as by
    CUDA. No bit depends on either.
    """

    def __init__(self, net: Net, cuda: int | None = None, unfolded: bool | None = None) -> None:
        self._session = session(graph(net, cuda is not None if unfolded is None else unfolded), cuda)

    def __call__(
        self, features: NDArray[np.float32], context: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        given = {"features": features} if context is None else {"features": features, "context": context}
        found: NDArray[np.float32] = self._session.run(None, given)[0]
        return found


def graph(net: Net, unfolded: bool = False) -> onnx.ModelProto:
    """A network as ONNX, floats throughout: convolutions, floor, limits, powers of two."""
    drawn = _Drawing(net, unfolded)
    inputs = [("features", net.enter.weight.shape[1])]
    h = drawn.floor(drawn.convolution("features", net.enter))
    if net.join is not None:
        inputs.append(("context", net.join.weight.shape[1]))
        h = drawn.node("Add", h, drawn.floor(drawn.convolution("context", net.join)))
    for block in net.blocks:
        a = drawn.limited(drawn.convolution(drawn.activation(h, block.down), block.first))
        h = drawn.node("Add", h, drawn.floor(drawn.convolution(a, block.second)))
    out = drawn.activation(h, net.down)
    out, size = (
        (out, net.channels) if net.head is None else (drawn.floor(drawn.convolution(out, net.head)), len(net.head.bias))
    )
    *given, outputs = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, channels, None, None])
        for name, channels in [*inputs, (out, size)]
    )
    return _model(helper.make_graph(drawn.nodes, "network", given, [outputs], drawn.constants))


def _model(made: onnx.GraphProto) -> onnx.ModelProto:
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


class _Drawing:
    """A graph's nodes and constants as they come; methods return the name of what they add."""

    def __init__(self, net: Net, unfolded: bool) -> None:
        self._net, self._unfolded = net, unfolded
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype, order="C"), name))
        return name

    def convolution(self, x: str, convolution: Convolution) -> str:
        weight, bias = convolution.scaled(np.float32)
        k = weight.shape[2]
        if self._unfolded and k > 1:
            x, k = self._side_by_side(x, k), 1
            weight = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1, 1, 1)
        return self.node("Conv", x, self.constant(weight), self.constant(bias), kernel_shape=[k, k], pads=[k // 2] * 4)

    def _side_by_side(self, x: str, k: int) -> str:
        """(N, I, H, W) -> (N, k k I, H, W): what a convolution sees from each position, row by row."""
        around = self.node("Pad", x, self.constant([0, 0, k // 2, k // 2] * 2, np.int64))
        axes, end = self.constant([2, 3], np.int64), np.iinfo(np.int64).max
        ends = [*range(1 - k, 0), end]
        pieces = [
            self.node(
                "Slice", around, self.constant([i, j], np.int64), self.constant([ends[i], ends[j]], np.int64), axes
            )
            for i in range(k)
            for j in range(k)
        ]
        return self.node("Concat", *pieces, axis=1)

    def floor(self, x: str) -> str:
        return self.node("Floor", x)

    def limited(self, x: str, half: float = 0) -> str:
        """`exact.run`'s."""
        x = self.node("LeakyRelu", x, alpha=0.125) if self._net.leaky else x
        x = self.node("Add", x, self.constant(half)) if half else x
        return self.node("Clip", self.floor(x), self.constant(self._net.least), self.constant(LIMIT))

    def activation(self, x: str, down: NDArray[Any]) -> str:
        return self.limited(self.node("Mul", x, self.constant(unit(down, np.float32))), 0.5)
