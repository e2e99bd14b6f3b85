#!/usr/bin/env bash
# dvc 3.67.1: one plain output with `cache: false` in a stage switches DVC's run-cache off for the whole stage. The same file under `metrics:`
# or `plots:` with `cache: false` does not.
# Seen: after an edit that is undone, `dvc repro` runs the stage with the plain output a third time, and restores the stage with the metric from the
# run-cache. No message tells them apart.
# Expected by a reader of the documentation: `cache: false` keeps an output out of DVC's cache, and says nothing of the other outputs of its stage.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$folder/venv/bin:$PATH" HOME="$folder" DVC_NO_ANALYTICS=1
mkdir "$folder/repository" && cd "$folder/repository"
git init --quiet && dvc init --quiet

cat > dvc.yaml <<'YAML'
stages:
  with_metric:
    cmd: echo run >> ../with_metric.log; cp number.txt with_metric.large; echo '{}' > with_metric.json
    deps: [number.txt]
    outs: [with_metric.large]
    metrics: [with_metric.json: {cache: false}]
  with_output:
    cmd: echo run >> ../with_output.log; cp number.txt with_output.large; echo '{}' > with_output.json
    deps: [number.txt]
    outs: [with_output.large, with_output.json: {cache: false}]
YAML

for number in 1 2 1; do
    echo "$number" > number.txt
    dvc repro --quiet
done
metric=$(wc -l < ../with_metric.log) output=$(wc -l < ../with_output.log)
echo "runs for an edit that is undone: $metric with a metric that is not cached, $output with a plain output that is not cached"
[ "$metric" -eq 2 ] && [ "$output" -eq 3 ]
