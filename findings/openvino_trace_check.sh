#!/usr/bin/env bash
# openvino 2026.4.1 with torch 2.13.0: `openvino.convert_model(module, example_input=...)` runs the module three times where one
# run is enough. It traces with torch's defaults, and `torch.jit.trace` then runs module and trace again, to compare them.
# For a large network that is most of the conversion. No argument of `convert_model`
# turns it off; a `TorchScriptPythonDecoder` of its own with `trace_kwargs={"check_trace": False}` does, and gives the
# same graph.
# Seen: three runs of the module with `convert_model` alone, one with the decoder.
# Expected: one run, as the example input is there to follow the module once.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check openvino==2026.4.1 torch==2.13.0 numpy==2.4.6

cat > "$folder/convert.py" <<'PYTHON'
import openvino, torch
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

class Counted(torch.nn.Module):
    runs = 0
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(4, 2)
    def forward(self, x):
        Counted.runs += 1
        return self.layer(x)

def operations(model): return [operation.get_type_name() for operation in model.get_ordered_ops()]

module, example = Counted().eval(), torch.zeros(1, 4)
plain = operations(openvino.convert_model(module, example_input=example))
runs, Counted.runs = Counted.runs, 0
decoder = TorchScriptPythonDecoder(module, example_input=example, trace_kwargs={"check_trace": False})
quick = operations(openvino.convert_model(decoder, example_input=example))
print(runs, Counted.runs, plain == quick)
PYTHON

seen=$(CI=true "$folder/venv/bin/python" "$folder/convert.py" 2> /dev/null | tail -n 1)
echo "runs of the module by convert_model, by a decoder without the check, and whether the graphs are alike: $seen"
[ "${seen%% *}" -gt 1 ] && [ "${seen#* }" = "1 True" ]
