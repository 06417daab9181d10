package io.github.tailorkv.kernels;

import java.lang.System.Logger.Level;
import java.util.concurrent.atomic.AtomicBoolean;

import org.jspecify.annotations.Nullable;

import jdk.incubator.vector.FloatVector;

/**
 * Chooses the kernels for this JVM, best first. Call it late, with the model already loaded: Jlama makes a setting of the
 * Vector API that must come before its first use.
 *
 * <p>Threads: safe. The kernels it returns have no state and serve any number of threads.
 */
public final class KernelLadder {

    private static final System.Logger LOG = System.getLogger("io.github.tailorkv");
    private static final String VECTOR_MODULE = "jdk.incubator.vector";
    private static final AtomicBoolean CHOICE_LOGGED = new AtomicBoolean();

    private KernelLadder() {}

    /**
     * Returns kernels by name.
     *
     * @param name {@code auto} for the best that run here, or {@code panama} or {@code scalar} for just these
     * @throws IllegalArgumentException if there are no kernels of that name
     * @throws IllegalStateException if they cannot run here; the message says why and what to do
     */
    public static AttentionKernels choose(String name) {
        return switch (name) {
            case "auto" -> best();
            case "panama" -> panama();
            case "scalar" -> new ScalarAttentionKernels();
            default -> throw new IllegalArgumentException(
                    "no attention kernels named \"" + name + "\": auto, panama and scalar exist");
        };
    }

    private static AttentionKernels best() {
        String obstacle = obstacleToPanama();
        AttentionKernels kernels = obstacle == null ? Panama.kernels() : new ScalarAttentionKernels();
        if (!CHOICE_LOGGED.getAndSet(true)) {
            if (obstacle == null) {
                LOG.log(Level.DEBUG, "Attention kernels: panama, {0} bits", Panama.vectorBits());
            } else {
                LOG.log(Level.WARNING, "Attention kernels: scalar, many times slower than panama, because {0}",
                        obstacle);
            }
        }
        return kernels;
    }

    private static AttentionKernels panama() {
        String obstacle = obstacleToPanama();
        if (obstacle != null) {
            throw new IllegalStateException("the panama kernels cannot run: " + obstacle);
        }
        return Panama.kernels();
    }

    private static @Nullable String obstacleToPanama() {
        if (ModuleLayer.boot().findModule(VECTOR_MODULE).isEmpty()) {
            return "the JVM runs without the Vector API; add --add-modules " + VECTOR_MODULE;
        }
        if (Panama.vectorBits() < Panama.LEAST_BITS) {
            return "vectors have " + Panama.vectorBits() + " bits here and the kernels need " + Panama.LEAST_BITS
                    + " (AVX2 or AVX-512); if the processor has them, look for -XX:UseAVX or -XX:MaxVectorSize";
        }
        return null;
    }

    /** Everything that touches the Vector API: loaded only after the module was found. */
    private static final class Panama {
        private static final int LEAST_BITS = 256;

        private static int vectorBits() {
            return FloatVector.SPECIES_PREFERRED.vectorBitSize();
        }

        private static AttentionKernels kernels() {
            return new PanamaAttentionKernels();
        }
    }
}
