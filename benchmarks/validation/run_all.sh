#!/bin/sh
# Every table and figure of the chapter Validation, in an order that uses the cache best.
#     benchmarks/validation/run_all.sh [DATA]
# DATA: the folder with isochrones/, psf/, images/ and catalogs/ (see README.rst); without it what needs it is left out.
# MODEL: another network than the embedded one, by name or file. OPTIONS: further ones, for all scripts that look at mocks, such as
#     MODEL=m83.safetensors OPTIONS="--samples 500 --recipe benchmarks/validation/trial_mocks.toml" benchmarks/validation/run_all.sh
set -e
here=$(dirname "$0")
: "${PYTHON:=python}" "${MODEL:=m83}"
if [ -n "$1" ]; then
    $PYTHON "$here/../../examples/real_hst_stamps.py" --data "$1" --out "$here/../results"
    rm "$here/../results/real_hst_stamps.png"
    $PYTHON "$here/../m83_photometry.py" --data "$1" --out "$here/../results"
    mv "$here/../results/m83_photometry.png" "$here/../../docs/figures"
fi
$PYTHON "$here/../score_network.py" "$MODEL" m83-renormalized m83-paper --out "$here/../results/reference_scores"
for script in recovery calibration_bins morphology degeneracy classical_peer flux_errors missing_bands classes; do
    $PYTHON "$here/$script.py" --model "$MODEL" $OPTIONS
done
$PYTHON "$here/sensitivity.py" --model "$MODEL" $OPTIONS ${1:+--data "$1"}
$PYTHON "$here/out_of_domain.py" --model "$MODEL"
$PYTHON "$here/detection.py" --model "$MODEL"
for finder in default network; do  # in a small field, for the page Survey, which shows no figure of them
    name=$([ $finder = default ] && echo detection_small || echo detection_network)
    $PYTHON "$here/detection.py" --model "$MODEL" --size 1024 --clusters 75 --finder $finder --name $name
    rm "$here/../../docs/figures/$name.png"
done
if [ -n "$1" ]; then
    $PYTHON "$here/m83_catalogue.py" --data "$1/catalogs"
fi
$PYTHON "$here/bands_by_photometry.py"
$PYTHON "$here/more_bands.py" --model "$MODEL" $OPTIONS
