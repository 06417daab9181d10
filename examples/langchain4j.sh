#!/usr/bin/env bash
# An application on LangChain4j, with TailorKV under the Jlama in it; builds what is missing first:
#   examples/langchain4j.sh [-DNAME=VALUE]... [QUESTION]...
# The questions are about document.txt beside this file. JAVA_OPTS holds more options for the JVM.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

properties=()
questions=()
for option; do
    case $option in
        -D?*) properties+=("$option") ;;
        -*) echo "usage: langchain4j.sh [-DNAME=VALUE]... [QUESTION]..." >&2 && exit 2 ;;
        *) questions+=("$option") ;;
    esac
done
if [ ${#questions[@]} -eq 0 ]; then questions=("Where does Sara Walsh live?"); fi

. "$here/launch.sh"

# LangChain4j wants a folder of models as Jlama downloads them.
models=$root/examples/target/models
mkdir -p "$models/tailorkv_reference"
ln -sf "$here/model/reference"/* "$models/tailorkv_reference"
touch "$models/tailorkv_reference/.finished"

# shellcheck disable=SC2086
exec "${java[@]}" "${tailorkv[@]}" ${JAVA_OPTS:-} ${properties[@]+"${properties[@]}"} -cp "$plugin:$classpath" \
    io.github.tailorkv.examples.LangChainQuestions "$models" tailorkv/reference "$here/document.txt" "${questions[@]}"
