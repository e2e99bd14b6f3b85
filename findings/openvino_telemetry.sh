#!/usr/bin/env bash
# openvino 2026.4.1 (with openvino-telemetry 2025.2.0, which pip installs with it): `openvino.convert_model` reports its use over
# the network unless CI is set or somebody opted out before. No dialog asks. Each report is sent by a forked copy of the
# whole process, so that a process with a large model in memory is copied several times for each conversion, and a machine
# without a network waits in those copies.
# Seen: several forks for one conversion of a model with a single addition; none with CI=true.
# Expected by a reader of the API: a conversion of a local model that starts no process and opens no connection.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 openvino-telemetry==2025.2.0 onnx==1.23.2

cat > "$folder/convert.py" <<'PYTHON'
import os, sys
forks = []
sys.addaudithook(lambda event, arguments: forks.append(event) if event in ("os.fork", "subprocess.Popen", "os.posix_spawn") else None)
import onnx
from onnx import TensorProto, helper
value = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])
graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "double", [value("x")], [value("y")])
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), sys.argv[1])
import openvino
forks.clear()  # those of imports
openvino.convert_model(sys.argv[1])
print(len(forks))
PYTHON

run() { env -u CI HOME="$folder" "$@" "$folder/venv/bin/python" "$folder/convert.py" "$folder/double.onnx"; }
asked=$(run timeout 120)
silent=$(env HOME="$folder" CI=true timeout 120 "$folder/venv/bin/python" "$folder/convert.py" "$folder/double.onnx")
echo "processes started by one conversion: $asked; with CI=true: $silent"
[ "$asked" -gt 0 ] && [ "$silent" -eq 0 ]
