#!/bin/bash
# Checks and times the CUDA backend on a machine with a GPU, in one command of under ten minutes; prints a table. Such a
# machine needs no JDK and no Maven: pack.sh makes the folder that this script runs in, wherever it was copied to.
#   run.sh [OUT]     OUT: folder for the full logs (default: out)
# Parts can be chosen: PARTS="check bench rivals sanitize model" (default: all).
set -u
cd "$(dirname "$0")"
out=${1:-out}
parts=${PARTS:-check bench rivals sanitize model}
mkdir -p "$out" work
[ -d work/jdk ] || tar xJf jdk.tar.xz -C work
java="work/jdk/bin/java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow"
echo '.level=WARNING' >work/quiet.properties
gpu="$java -Xmx8g -Djava.util.logging.config.file=work/quiet.properties -cp classes:lib/*"
has() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
date
if has check; then
    timeout 180 $gpu io.github.tailorkv.gpu.GpuCheck full >"$out/check.txt" 2>&1
    echo "check: exit code $?, $(tail -1 "$out/check.txt")"
    grep '^FAILED' "$out/check.txt"
fi
if has bench; then
    timeout 240 $gpu io.github.tailorkv.gpu.GpuBench 16,32,64,128,256 backend=cuda policy=0:quantize,1-31:retrieve \
        2>&1 | tee "$out/bench.txt"
    timeout 80 $gpu io.github.tailorkv.gpu.GpuBench 16,128 backend=cuda policy=0:quantize,1-31:retrieve index=2 2>&1 |
        tee -a "$out/bench.txt"
fi
if has rivals && python3 -c 'import torch' 2>/dev/null; then
    timeout 150 python3 rivals.py 16,32,64,128,256 16,64 2>&1 | tee "$out/rivals.txt"
fi
if has sanitize && command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
        timeout 90 compute-sanitizer --target-processes all --tool $tool $gpu io.github.tailorkv.gpu.GpuCheck small \
            >"$out/$tool.txt" 2>&1
        echo "$tool: exit code $?, $(grep -E 'SUMMARY' "$out/$tool.txt" | tail -1)"
    done
fi
if has model; then
    timeout 100 $java -Xmx12g -cp 'classes:jlama/*' io.github.tailorkv.gpu.WriteModel work/models 4 >"$out/model.txt" 2>&1
    python3 repeat_layers.py "$(ls -d work/models/*-q4 | head -1)" work/model 32
    mkdir -p work/tmp
    timeout 280 $java -Xmx4g -Djava.io.tmpdir=work/tmp -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp 'classes:jlama/*' io.github.tailorkv.bench.EndToEnd --model work/model --jar lib/tailorkv.jar \
        --synthetic-prefill --contexts 32k,128k --rounds 1 --decode-steps 8 --warm-up 256 --heap 16g --limit 200 \
        --json "$out/model.jsonl" --run "cuda:backend=cuda,policy=0:quantize,1-31:retrieve" \
        "panama:backend=panama,policy=0:quantize,1-31:retrieve" stock 2>&1 | tee "$out/model-run.txt" | grep -v INFO
fi
