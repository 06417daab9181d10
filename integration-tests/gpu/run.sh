#!/bin/bash
# Checks and times the CUDA backend on a machine with a GPU, in one command of under ten minutes; prints a table. Such a
# machine needs no JDK and no Maven: pack.sh makes the folder that this script runs in, wherever it was copied to. What is
# not timed runs side by side; the whole model, which comes last, has the time that is left.
#   run.sh [OUT]     OUT: folder for the full logs (default: out)
# Settings by environment: PARTS (default: "share check sanitize bench rivals model"), LIMIT (seconds for everything, 585);
# for the whole model CONTEXTS and CONTENDERS, which share the time alike, as EndToEnd takes them, and THREADS for Jlama's
# own products (half of the processors, as Jlama decides).
set -u
cd "$(dirname "$0")"
out=${1:-out}
parts=${PARTS:-share check sanitize bench rivals model}
limit=${LIMIT:-585}
mkdir -p "$out" work
[ -d work/jdk ] || tar xJf jdk.tar.xz -C work
java="work/jdk/bin/java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED --sun-misc-unsafe-memory-access=allow"
echo '.level=WARNING' >work/quiet.properties
gpu="$java -Xmx8g -Djava.util.logging.config.file=work/quiet.properties -cp classes:lib/*"
has() { case " $parts " in *" $1 "*) return 0 ;; *) return 1 ;; esac; }

check() { # part seconds class arguments: runs a check and says how it ended
    local part=$1 seconds=$2
    shift 2
    timeout "$seconds" $gpu "$@" >"$out/$part.txt" 2>&1
    echo "$part: exit code $?, $(tail -1 "$out/$part.txt")"
    grep '^FAILED' "$out/$part.txt"
}

sanitize() {
    for tool in memcheck racecheck; do
        timeout 90 compute-sanitizer --target-processes all --tool $tool $gpu io.github.tailorkv.gpu.GpuCheck small \
            >"$out/$tool.txt" 2>&1
        echo "$tool: exit code $?, $(grep -E 'SUMMARY' "$out/$tool.txt" | tail -1)"
    done
}

write_model() {
    $java -Xmx12g -cp 'classes:jlama/*' io.github.tailorkv.gpu.WriteModel work/models 4 >"$out/model.txt" 2>&1
    python3 repeat_layers.py "$(ls -d work/models/*-q4 | head -1)" work/model 32
}

nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader
lscpu | grep -E '^(Model name|CPU\(s\))'
date
if has model; then write_model & fi
# Alone on the GPU, for it looks at the memory in use.
if has share; then check share 90 io.github.tailorkv.gpu.GpuSharing; fi
if has check; then check check 200 io.github.tailorkv.gpu.GpuCheck full & fi
if has sanitize && command -v compute-sanitizer >/dev/null; then sanitize & fi
wait
echo "checked after $SECONDS s"
if has bench; then
    timeout 240 $gpu io.github.tailorkv.gpu.GpuBench 16,32,64,128,256 backend=cuda policy=0:quantize,1-31:retrieve \
        2>&1 | tee "$out/bench.txt"
fi
if has rivals && python3 -c 'import torch' 2>/dev/null; then
    timeout 150 python3 rivals.py 16,32,64,128,256 16,64 2>&1 | tee "$out/rivals.txt"
fi
echo "timed after $SECONDS s"
left=$((limit - SECONDS))
if has model && [ "$left" -le 30 ]; then
    echo "model: no time is left"
elif has model; then
    mkdir -p work/tmp
    read -ra contenders <<<"${CONTENDERS:-cuda:backend=cuda,policy=0:quantize,1-31:retrieve \
        panama:backend=panama,policy=0:quantize,1-31:retrieve}"
    timeout "$left" $java -Xmx4g -Djava.io.tmpdir=work/tmp -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
        -cp 'classes:jlama/*' io.github.tailorkv.bench.EndToEnd --model work/model --jar lib/tailorkv.jar \
        --synthetic-prefill --contexts "${CONTEXTS:-32k,128k}" --rounds 1 --decode-steps 24 --warm-up 256 --heap 16g \
        --threads "${THREADS:-0}" \
        --limit $(((left - 10) / ${#contenders[@]})) --json "$out/model.jsonl" --run "${contenders[@]}" 2>&1 |
        tee "$out/model-run.txt" | grep -v INFO
fi
echo "ended after $SECONDS s"
