#!/bin/sh
# Compiles the GPU kernels of src/main/cuda into the image that the jar carries, and writes down which sources it was made
# from. Run by the build where nvcc is found and the sources have changed; the result is committed, so that a machine
# without nvcc builds the same jar. Needs nvcc 13.0 or newer; NVCC names another than the one on the path.
set -eu
cd "$(dirname "$0")"
nvcc=${NVCC:-nvcc}
sources=src/main/cuda
target=src/main/resources/io/github/tailorkv/kernels
hash=$(cd "$sources" && printf '%s\n' *.cu *.cuh | LC_ALL=C sort | xargs cat | sha256sum | cut -d' ' -f1)
if [ -f "$target/cuda.fatbin.gz" ] && [ "$(cat "$target/cuda.sha256" 2>/dev/null)" = "$hash" ]; then
    exit 0
fi
if ! command -v "$nvcc" >/dev/null; then
    echo "nvcc is not there: the jar keeps the committed GPU kernels, which are older than their sources." >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
images=
# 90a: Hopper with its own instructions.
for sm in 80 86 89 90a 100 120; do
    "$nvcc" -std=c++17 -cubin -gencode "arch=compute_$sm,code=sm_$sm" -o "$work/$sm.cubin" "$sources/tailorkv.cu" &
    images="$images --image3=kind=elf,sm=$sm,file=$work/$sm.cubin"
done
"$nvcc" -std=c++17 -ptx -arch=compute_120 -o "$work/120.ptx" "$sources/tailorkv.cu" &
wait
# shellcheck disable=SC2086
fatbinary --create="$work/all.fatbin" $images "--image3=kind=ptx,sm=120,file=$work/120.ptx"
mkdir -p "$target"
gzip -9nc "$work/all.fatbin" >"$target/cuda.fatbin.gz"
echo "$hash" >"$target/cuda.sha256"
