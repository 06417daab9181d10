package io.github.tailorkv.it;

import java.nio.file.Path;

/** The ways into an application on a plain class path. */
enum Way {
    AGENT {
        @Override
        ChildJvm prepare(Path folder, Path... application) {
            return new ChildJvm(folder).agent().classPath(application).classPath(ChildJvm.jlama());
        }
    },
    CLASS_LOADER_JAR_FIRST {
        @Override
        ChildJvm prepare(Path folder, Path... application) {
            return new ChildJvm(folder).systemClassLoader()
                    .classPath(ChildJvm.TAILORKV)
                    .classPath(application)
                    .classPath(ChildJvm.jlama());
        }
    },
    CLASS_LOADER_JAR_LAST {
        @Override
        ChildJvm prepare(Path folder, Path... application) {
            return new ChildJvm(folder).systemClassLoader()
                    .classPath(application)
                    .classPath(ChildJvm.jlama())
                    .classPath(ChildJvm.TAILORKV);
        }
    },
    AGENT_AND_CLASS_LOADER {
        @Override
        ChildJvm prepare(Path folder, Path... application) {
            return CLASS_LOADER_JAR_LAST.prepare(folder, application).agent();
        }
    };

    /** A JVM to start in {@code folder}, with the application first on its class path and TailorKV not enabled. */
    abstract ChildJvm prepare(Path folder, Path... application);
}
