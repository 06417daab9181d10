#!/bin/bash
# Measures quality over all task families at several lengths on a machine with GPUs: many evaluations side by side, two
# cores each, all of them on the GPUs in turn. Runs in the folder that pack.sh makes and goes on where it was stopped.
#   quality.sh MODEL OUT
# MODEL: folder of a model; OUT: folder for results.jsonl, the summary and the report.
# Settings by environment: JOBS (processes; half of the cores), SEEDS and COUNT (each seed makes COUNT prompts of every
# family and length, one seed after the other, so that a run that ends early has some of each), TOKENS, FAMILIES, POLICIES,
# LIMIT (seconds after which no more is waited for; none).
set -u
model=$(realpath "$1")
mkdir -p "$2" || exit
out=$(realpath "$2")
cd "$(dirname "$0")" || exit
cores=$(nproc)
jobs=${JOBS:-$((cores / 2))}
count=${COUNT:-4}
seeds=${SEEDS:-2029 2030 2031 2032}
tokens=${TOKENS:-12288 8192 4096 2048}
families=${FAMILIES:-niah_noise niah_essay niah_uuid multikey_needles multikey_uuid multivalue multiquery vartrack common_words frequent_words facts}
gpus=$(nvidia-smi -L 2>/dev/null | wc -l)
mkdir -p work/shards
[ -d work/jdk ] || tar xJf jdk.tar.xz -C work
echo '.level=WARNING' >work/quiet.properties
java="work/jdk/bin/java --add-modules jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    --sun-misc-unsafe-memory-access=allow -Xmx3g -Djava.util.logging.config.file=work/quiet.properties \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=error -cp lib/*:jlama/* io.github.tailorkv.tools.Main evaluate"
# A disk for offloaded rows is the CPU backend's alone; the GPU shows what compact's choice of layers loses.
policies=
for policy in ${POLICIES:-quantize4 retrieve paper2 balanced compact=compact,offload=ram}; do
    policies="$policies --policy $policy"
done

shard() { # slot seed tokens family
    local first=$(($1 * 2 % cores)) name="$3-$4-$2"
    if [ "$gpus" -gt 0 ]; then export CUDA_VISIBLE_DEVICES=$(($1 % gpus)); fi
    # shellcheck disable=SC2086
    taskset -c "$first,$(((first + 1) % cores))" $java "$model" -o "work/shards/$name" --seed "$2" --count "$count" \
        --tokens "$3" --families "$4" $policies >>"work/shards/$name.log" 2>&1 ||
        echo "not finished: $name, see work/shards/$name.log"
}
export -f shard
export model count java policies gpus cores

for seed in $seeds; do
    for length in $tokens; do
        for family in $families; do echo "$seed $length $family"; done
    done
done | timeout "${LIMIT:-0}" xargs -P "$jobs" -L 1 --process-slot-var=SLOT bash -c 'shard "$SLOT" "$@"' _
cat work/shards/*/results.jsonl >"$out/results.jsonl"
# Prints the tables of all seeds and writes the report; of the first seed it also does what is missing.
# shellcheck disable=SC2086
$java "$model" -o "$out" --seed "${seeds%% *}" --count "$count" --tokens "${tokens// /,}" --families "${families// /,}" $policies
