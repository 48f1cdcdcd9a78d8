"""Exact networks on ONNX Runtime's CPU kernels; a network becomes an ONNX graph in memory. Knows
nothing of pictures.

A session has no threads of its own: it computes on the thread that calls it, any number of them at
once. `workers.py` says why.
"""

import os
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from uqdm.exact.network import LIMIT, Convolution, Net, unit

OPSET, IR = 17, 8  # what ONNX Runtime reads since 1.14
QUIET = 3  # errors only
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


class Runner:
    """An exact network: features (N, I, H, W), and what it joins (N, J, H, W), to its outputs
    (N, O, H, W).
    """

    def __init__(self, net: Net) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # A session would keep its own for ever, and a model has a session a pass: 0.6 GiB, and no
        # faster.
        options.enable_cpu_mem_arena = False
        options.log_severity_level = QUIET
        self._session = onnxruntime.InferenceSession(
            graph(net).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(
        self, features: NDArray[np.float32], context: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        given = {"features": features} if context is None else {"features": features, "context": context}
        found: NDArray[np.float32] = self._session.run(None, given)[0]
        return found


def graph(net: Net) -> onnx.ModelProto:
    """A network as ONNX, floats throughout: convolutions, floor, limits, powers of two."""
    drawn = _Drawing(net)
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
    made = helper.make_graph(drawn.nodes, "network", given, [outputs], drawn.constants)
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)


class _Drawing:
    """A graph's nodes and constants as they come; methods return the name of what they add."""

    def __init__(self, net: Net) -> None:
        self._net = net
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(values, np.float32, order="C"), name))
        return name

    def convolution(self, x: str, convolution: Convolution) -> str:
        weight, bias = convolution.scaled(np.float32)
        k = weight.shape[2]
        return self.node("Conv", x, self.constant(weight), self.constant(bias), kernel_shape=[k, k], pads=[k // 2] * 4)

    def floor(self, x: str) -> str:
        return self.node("Floor", x)

    def limited(self, x: str, half: float = 0) -> str:
        """`exact.run`'s."""
        x = self.node("LeakyRelu", x, alpha=0.125) if self._net.leaky else x
        x = self.node("Add", x, self.constant(half)) if half else x
        return self.node("Clip", self.floor(x), self.constant(self._net.least), self.constant(LIMIT))

    def activation(self, x: str, down: NDArray[Any]) -> str:
        return self.limited(self.node("Mul", x, self.constant(unit(down, np.float32))), 0.5)
