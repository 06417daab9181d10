# What the scripts beside this file share; they set $here to this folder and source it.

root=$(cd "$here/.." && pwd)
plugin=$root/tailorkv-plugin/target/tailorkv.jar
examples=$root/examples/target/tailorkv-examples.jar

fail() {
    printf '%s: %s\n' "$(basename "$0")" "$1" >&2
    exit 1
}

# The home of a JDK 25 or newer: JAVA_HOME's, the one of the java on PATH, or one in a folder where JDKs are installed.
find_jdk() {
    local java home version
    java=$(command -v java || true)
    if [ -n "$java" ]; then
        java=$(readlink -f "$java" 2>/dev/null || echo "$java")
    fi
    for home in "${JAVA_HOME:-}" "${java%/bin/java}" /usr/lib/jvm/* /usr/lib64/jvm/* /usr/java/* /opt/java/* \
            "$HOME"/.jdks/* "$HOME"/.sdkman/candidates/java/* /Library/Java/JavaVirtualMachines/*/Contents/Home; do
        if [ ! -f "$home/release" ] || [ ! -x "$home/bin/javac" ]; then continue; fi
        version=$(sed -n 's/^JAVA_VERSION="\([0-9]*\).*/\1/p' "$home/release")
        if [ "${version:-0}" -ge 25 ]; then
            printf '%s\n' "$home"
            return
        fi
    done
    return 1
}

# True if there is a source that is newer than the jar it belongs to.
is_stale() {
    if [ ! -f "$plugin" ] || [ ! -f "$examples" ]; then return 0; fi
    [ -n "$(
        cd "$root"
        find pom.xml tailorkv-kernels/pom.xml tailorkv-kernels/src/main tailorkv-plugin/pom.xml \
            tailorkv-plugin/src/main -newer "$plugin"
        find pom.xml examples/pom.xml examples/src/main -newer "$examples"
    )" ]
}

build() {
    if ! command -v mvn >/dev/null; then
        fail "Maven is needed to build the plugin, and there is no mvn on PATH; install it (Debian: apt-get install maven)"
    fi
    echo "Building TailorKV and the examples; the first time Maven downloads what it needs ..." >&2
    (
        cd "$root"
        # A JDK that Maven would not discover by itself.
        case $jdk in
            /usr/lib/jvm/*) ;;
            *) export JAVA_HOME="$jdk" ;;
        esac
        mvn -q -B -ntp -Dmaven.test.skip=true -Dformatter.skip=true -pl tailorkv-plugin,examples -am package >&2
    ) || fail "the build failed, see above"
}

jdk=$(find_jdk) || fail "no JDK 25 or newer in JAVA_HOME, on PATH or under /usr/lib/jvm; install one (e.g. Temurin 25) or set JAVA_HOME to it"
# TAILORKV_BUILD=no takes the jars that are there as they are.
if [ "${TAILORKV_BUILD:-}" != no ] && is_stale; then build; fi

# What Jlama needs of the JVM, and no warning of a library of its own that uses Unsafe.
java=("$jdk/bin/java" --add-modules=jdk.incubator.vector --enable-native-access=ALL-UNNAMED
    --sun-misc-unsafe-memory-access=allow
    "-Djava.util.logging.config.file=$here/logging.properties")
classpath=$examples:$root/examples/target/lib/*

# Two properties, besides the jar on the class path: all there is to TailorKV in an application. The option for the log
# silences a remark of the JVM about its archive of classes, which it makes on standard output.
tailorkv=(-Dtailorkv.enabled=true -Djava.system.class.loader=io.github.tailorkv.boot.TailorKvClassLoader -Xlog:cds=error)
