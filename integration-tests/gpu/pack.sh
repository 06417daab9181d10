#!/bin/sh
# Makes the folder that run.sh needs on a machine with a GPU, about 45 MB: a JDK image, the plugin's jar, the harness, and
# Jlama's jars. Run after 'mvn package'; JAVA_HOME names a JDK 25.
#   pack.sh FOLDER
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
target=$1
mkdir -p "$target/lib" "$target/jlama" "$target/classes"
cp "$here/run.sh" "$here/quality.sh" "$here"/*.py "$target"
cp "$root/tailorkv-plugin/target/tailorkv.jar" "$target/lib"
cp -r "$root/integration-tests/target/test-classes/." "$target/classes"
tr ':' '\n' <"$root/integration-tests/target/benchmark-classpath.txt" |
    grep -vE 'spring|langchain|junit|mockito|jmh|objenesis|byte-buddy|opentest|apiguardian|jcuda' |
    while read -r jar; do cp "$jar" "$target/jlama"; done
"$JAVA_HOME/bin/jlink" --strip-debug --no-man-pages --no-header-files --output "$target/jdk" --add-modules \
    java.base,java.logging,java.management,jdk.management,jdk.unsupported,java.instrument,jdk.incubator.vector,java.xml,java.naming,java.sql,java.desktop,jdk.zipfs
tar c -C "$target" jdk | xz -9 >"$target/jdk.tar.xz"
rm -r "$target/jdk"
