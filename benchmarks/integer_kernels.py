"""ONNX Runtime's integer convolution beside the float32 one that exact networks use, on one thread.

    python benchmarks/integer_kernels.py [--channels 16 48 96] [--side 96] [--kernel 1 3] [--repeat 9]

Weights and activations of the networks have 11 to 13 bits, and `ConvInteger` takes 8. So one exact
product is the sum of four: low and high halves of both. Prints milliseconds of one float32
convolution and of one and four integer ones, medians of runs in turn.
"""

import argparse
import statistics
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper


def session(kernel: int, channels: int, integer: bool) -> onnxruntime.InferenceSession:
    """One convolution, `channels` to as many; weights are inputs too, but constant ones."""
    random = np.random.default_rng(0)
    shape = (channels, channels, kernel, kernel)
    values = random.integers(0, 256, shape)
    weight = onnx.numpy_helper.from_array(values.astype(np.uint8 if integer else np.float32), "w")
    given, found = (TensorProto.UINT8, TensorProto.INT32) if integer else (TensorProto.FLOAT, TensorProto.FLOAT)
    node = helper.make_node("ConvInteger" if integer else "Conv", ["x", "w"], ["y"], pads=[kernel // 2] * 4)
    x, y = (helper.make_tensor_value_info(n, t, [1, channels, None, None]) for n, t in (("x", given), ("y", found)))
    graph = helper.make_graph([node], "one", [x], [y], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, nargs="+", default=[16, 48, 96])
    parser.add_argument("--side", type=int, default=96)
    parser.add_argument("--kernel", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--repeat", type=int, default=9)
    a = parser.parse_args()
    print(f"{'kernel':>8}{'channels':>10}{'float32':>10}{'integer':>10}{'four':>10}{'four/float32':>14}")
    for kernel in a.kernel:
        for channels in a.channels:
            image = np.random.default_rng(1).integers(0, 256, (1, channels, a.side, a.side))
            runs = {
                name: (session(kernel, channels, name == "integer"), image.astype(dtype))
                for name, dtype in (("float32", np.float32), ("integer", np.uint8))
            }
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(a.repeat + 1):
                for name, (one, given) in runs.items():
                    begin = time.perf_counter()
                    for _ in range(10):
                        one.run(None, {"x": given})
                    times[name].append((time.perf_counter() - begin) / 10)
            real, whole = (1000 * statistics.median(times[name][1:]) for name in ("float32", "integer"))
            print(f"{kernel:8}{channels:10}{real:10.3f}{whole:10.3f}{4 * whole:10.3f}{4 * whole / real:14.2f}")


if __name__ == "__main__":
    main()
