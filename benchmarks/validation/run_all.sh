#!/bin/sh
# Every table and figure of the chapter Validation, in an order that uses the cache best.
#     benchmarks/validation/run_all.sh [DATA]
# DATA: the folder with isochrones/, psf/ and images/ (see README.rst); without it what needs it is left out. More options for all
# scripts go into VALIDATION, such as VALIDATION="--model m83.safetensors --samples 2000".
set -e
DATA=${1:+$(realpath "$1")}
cd "$(dirname "$0")"
: "${PYTHON:=python}"
if [ -n "$DATA" ]; then
    $PYTHON ../../examples/real_hst_stamps.py --data "$DATA" --out ../results
    rm ../results/real_hst_stamps.png
fi
for script in recovery calibration_bins morphology degeneracy classical_peer flux_errors classes; do
    $PYTHON $script.py $VALIDATION
done
$PYTHON sensitivity.py $VALIDATION ${DATA:+--data "$DATA"}
$PYTHON out_of_domain.py $VALIDATION
$PYTHON detection.py
$PYTHON more_bands.py $VALIDATION
