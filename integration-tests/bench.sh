#!/bin/sh
# Builds what is missing and runs the end-to-end benchmark; --help tells more.
set -eu
cd "$(dirname "$0")/.."

# The newest JDK of 25 or more, JAVA_HOME's first.
java=
for home in "${JAVA_HOME:-}" /usr/lib/jvm/* /usr/lib64/jvm/* /usr/java/* /opt/java/* "$HOME"/.jdks/* \
        "$HOME"/.sdkman/candidates/java/* /Library/Java/JavaVirtualMachines/*/Contents/Home; do
    [ -f "$home/release" ] && [ -x "$home/bin/java" ] || continue
    version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
    if [ "${version:-0}" -ge 25 ]; then
        java=$home/bin/java
        break
    fi
done
if [ -z "$java" ]; then
    echo "No JDK 25 or newer was found: set JAVA_HOME to one." >&2
    exit 1
fi

classpath=integration-tests/target/benchmark-classpath.txt
if [ ! -f "$classpath" ] || [ ! -f tailorkv-plugin/target/tailorkv.jar ]; then
    mvn -q -B -DskipTests -pl integration-tests -am package
fi
exec "$java" --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED \
    -Dorg.slf4j.simpleLogger.defaultLogLevel=warn \
    -cp "integration-tests/target/test-classes:$(cat "$classpath")" \
    io.github.tailorkv.bench.EndToEnd "$@"
