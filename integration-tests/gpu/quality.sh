#!/bin/bash
# Measures quality over all task families at several lengths on a machine with GPUs: many evaluations side by side, two
# cores each, all of them on the GPUs in turn. Runs in the folder that pack.sh makes and goes on where it was stopped.
#   quality.sh MODEL OUT
# MODEL: folder of a model; OUT: folder for results.jsonl, the summary and the report.
# Settings by environment: JOBS (processes; half of the cores), COUNTS ("8 16": prompts of a family and length, in waves),
# TOKENS, FAMILIES, POLICIES, SEED.
set -u
model=$(realpath "$1")
mkdir -p "$2" || exit
out=$(realpath "$2")
cd "$(dirname "$0")" || exit
export model out
cores=$(nproc)
jobs=${JOBS:-$((cores / 2))}
counts=${COUNTS:-8 16}
tokens=${TOKENS:-12288 8192 4096 2048}
families=${FAMILIES:-niah_noise niah_essay niah_uuid multikey_needles multikey_uuid multivalue multiquery vartrack common_words frequent_words facts}
export seed=${SEED:-2027}
mkdir -p work/shards
[ -d work/jdk ] || tar xJf jdk.tar.xz -C work
echo '.level=WARNING' >work/quiet.properties
export java="work/jdk/bin/java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    --sun-misc-unsafe-memory-access=allow -Xmx3g -Djava.util.logging.config.file=work/quiet.properties \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp lib/*:jlama/* io.github.tailorkv.tools.Main evaluate"
gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
export gpus
# A disk for offloaded rows is the CPU backend's alone; the GPU shows what compact's choice of layers loses.
policies=
for policy in ${POLICIES:-quantize4 retrieve paper2 balanced compact=compact,offload=ram}; do
    policies="$policies --policy $policy"
done
export policies

shard() { # slot count tokens family
    local first=$(($1 % (jobs * 2) * 2))
    [ "$gpus" -gt 0 ] && export CUDA_VISIBLE_DEVICES=$(($1 % gpus))
    local pin=""
    [ "$jobs" -gt 1 ] && pin="taskset -c $(((first) % cores)),$(((first + 1) % cores))"
    $pin $java "$model" -o "work/shards/$3-$4" --seed "$seed" --count "$2" --tokens "$3" --families "$4" $policies \
        >>"work/shards/$3-$4.log" 2>&1 || echo "failed: $3 $4, see work/shards/$3-$4.log"
}
export -f shard
export jobs cores

merge() {
    cat work/shards/*/results.jsonl >"$out/results.jsonl"
}

for count in $counts; do
    for length in $tokens; do
        for family in $families; do echo "$count $length $family"; done
    done | xargs -P "$jobs" -L 1 --process-slot-var=SLOT bash -c 'shard "$SLOT" "$@"' _
    merge
    # All results are there by now: this prints the tables and writes the report.
    CUDA_VISIBLE_DEVICES=0 $java "$model" -o "$out" --seed "$seed" --count "$count" --tokens "${tokens// /,}" \
        --families "${families// /,}" $policies
done
