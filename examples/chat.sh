#!/usr/bin/env bash
# Chats with a model that runs in Jlama with TailorKV, and builds what is missing first:
#   examples/chat.sh [--stock] [-DNAME=VALUE]... [option of the chat]...
# --stock leaves TailorKV out, for comparison; -D sets a system property; --help lists the options of the chat. The
# model is the reference model unless --model names another one. JAVA_OPTS holds more options for the JVM (-Xmx16g).
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

stock=no
properties=()
options=(--model "$here/model/reference")
if [ -t 2 ]; then options+=(--progress); else options+=(--no-progress); fi
for option; do
    case $option in
        --stock) stock=yes ;;
        -D?*) properties+=("$option") ;;
        *) options+=("$option") ;;
    esac
done

. "$here/launch.sh"

if [ "$stock" = no ]; then
    # The chat reads from the report what the KV cache holds.
    report=$(mktemp)
    trap 'rm -f "$report"' EXIT
    java+=("${tailorkv[@]}" "-Dtailorkv.report=$report")
    classpath=$plugin:$classpath
fi
# shellcheck disable=SC2086
"${java[@]}" ${JAVA_OPTS:-} ${properties[@]+"${properties[@]}"} -cp "$classpath" \
    io.github.tailorkv.examples.Chat "${options[@]}"
